import torch

from mmret.models.visual_tokenizer import (
    MeanColour,
    find_visual_tokenizer,
    load_visual_tokenizer,
    visual_tokenizer_facts,
)


def test_a_token_counts_the_quarters_of_red_green_and_blue():
    """Left patch (0.3, 0.6, 0.9) -> quarters 1, 2, 3 -> 16 + 8 + 3; right patch white -> 3, 3, 3."""
    pixels = torch.ones(1, 3, 8, 8)
    pixels[0, :, :, :4] = torch.tensor([0.3, 0.6, 0.9])[:, None, None]
    assert MeanColour().frozen()(pixels, 2).tolist() == [[27, 63, 27, 63]]


def test_half_black_half_white_is_grey_and_sizes_need_not_divide():
    pixels = torch.zeros(1, 3, 9, 9)
    pixels[..., 1::2] = 1.0
    tokens = MeanColour().frozen()(pixels, 1)
    assert tokens.tolist() == [[16 + 4 + 1]]  # 4 of 9 columns are white: the second quarter


def test_tiny_names_it_without_any_file():
    assert find_visual_tokenizer("tiny") is None
    assert visual_tokenizer_facts("tiny").num_tokens == 64
    assert isinstance(load_visual_tokenizer("tiny"), MeanColour)
