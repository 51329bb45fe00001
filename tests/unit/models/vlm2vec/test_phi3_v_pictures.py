"""Phi-3.5-V's pictures: sizes computed by hand, crops, numbered placeholders, and what must be refused."""

import pytest
import torch
from PIL import Image

from mmret.errors import SampleError
from mmret.models.backbones.phi3_v_crops import Crops
from mmret.models.backbones.vlm import tiny_tokenizer
from mmret.types import Content, Inputs
from tests.unit.models.toys import picture
from tests.unit.models.vlm2vec.phi3_v import CONTENTS, model_of, vectors

MEAN, STD = (0.5, 0.25, 0.0), (0.5, 0.25, 1.0)


def crops_of(crop_px=336, num_crops=4):
    return Crops(crop_px, num_crops, MEAN, STD)


@pytest.mark.parametrize(
    ("size", "num_crops", "padded", "tokens"),
    [
        ((100, 100), 1, (336, 336), 313),
        ((100, 100), 4, (672, 672), 757),
        ((400, 100), 4, (336, 1344), 745),
        ((100, 400), 4, (1344, 336), 781),
        ((100, 100), 16, (1344, 1344), 2509),
        ((1, 1), 4, (672, 672), 757),
        ((1, 40), 4, (1344, 336), 781),
    ],
)
def test_a_picture_has_the_published_number_of_crops_and_tokens(size, num_crops, padded, tokens):
    crops = crops_of(num_crops=num_crops)
    assert crops.padded(*size) == padded
    assert crops.tokens(*padded, patch_px=14) == tokens


def test_the_height_is_rounded_by_floating_point_in_the_published_order():
    assert crops_of().resized(21, 19) == (672, 607)  # 672 * 19 / 21 is 608; 672 / (21 / 19) falls short of it


def test_padding_is_white_and_falls_left_and_right_of_an_upright_picture():
    crops = crops_of(28, 1)
    black = Image.new("RGB", (10, 28), (0, 0, 0))
    views, size = crops(black)
    assert size == (28, 28)
    white = [(1 - mean) / std for mean, std in zip(MEAN, STD)]
    line = views[1][:, 14, :]
    is_white = [torch.allclose(line[:, x], torch.tensor(white)) for x in range(28)]
    assert is_white == [True] * 9 + [False] * 10 + [True] * 9


def test_the_odd_line_of_padding_goes_below():
    line = crops_of(28, 1)(Image.new("RGB", (28, 9), (0, 0, 0)))[0][1][0, :, 0]
    assert (line == line[0]).tolist() == [True] * 9 + [False] * 9 + [True] * 10


def test_with_one_crop_the_global_view_is_the_crop():
    views, _ = crops_of(28, 1)(Image.effect_noise((40, 30), 80).convert("RGB"))
    torch.testing.assert_close(views[0], views[1])


def test_crops_come_line_by_line_after_the_whole():
    image = Image.new("RGB", (56, 56))
    for number, place in enumerate([(0, 0), (28, 0), (0, 28), (28, 28)]):
        image.paste((number * 50, 0, 0), (*place, place[0] + 28, place[1] + 28))
    views, size = crops_of(28)(image)
    assert size == (56, 56)
    assert views.shape == (5, 3, 28, 28)
    red = views[:, 0].mean((1, 2)) * STD[0] + MEAN[0]
    torch.testing.assert_close(red[1:] * 255, torch.tensor([0.0, 50.0, 100.0, 150.0]))


def test_a_picture_too_thin_for_its_crops_is_refused_with_its_size():
    with pytest.raises(SampleError, match="a picture of 1 x 200 pixels: one side over 112 times the other"):
        model_of().processor([Content(images=(picture(1, (1, 200)),))], "query")


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (90, 1)])
def test_a_picture_with_a_side_of_one_pixel_is_encoded(size):
    assert torch.isfinite(vectors(model_of(), [Content("what", (picture(1, size),))])).all()


def test_the_number_of_crops_is_a_setting():
    content = [Content(images=(picture(1, (50, 50)),))]
    for limit, views in ((1, 2), (4, 5), (9, 10)):
        inputs = model_of(max_tiles=limit).processor(content, "query")
        assert len(inputs.ragged["pixel_values"][0]) == views


def test_each_piece_of_text_has_its_own_begin_token_and_pictures_negative_ids():
    processor = model_of(max_tiles=1).processor
    tokenizer = tiny_tokenizer("phi3_v")
    begin, red, blue = tokenizer.id_of("<s>"), *(tokenizer.ids([word])[0] for word in ("red", "blue"))
    inputs = processor.rows(["<|image_1|> red<|image_2|>", "blue"], [[Image.new("RGB", (28, 28))] * 2, []])
    ids, mask = inputs.dense["input_ids"], inputs.dense["attention_mask"].bool()
    # A crop of 28 px is one token, its line's end another; so is the whole; between them stands one more.
    assert ids[0].tolist() == [begin] + [-1] * 5 + [begin, *red] + [-2] * 5 + [begin]
    assert ids[1, mask[1]].tolist() == [begin, *blue]


def test_pictures_are_numbered_in_the_prompt():
    content = Content("compare", (picture(1, (28, 28)), picture(2, (28, 28))))
    ids = model_of(max_tiles=1).processor([content], "query").dense["input_ids"][0].tolist()
    assert [number for number in ids if number < 0] == [-1] * 5 + [-2] * 5


@pytest.mark.parametrize(
    ("prompt", "count", "message"),
    [
        ("<|image_2|> <|image_1|> which", 2, r"placeholders <\|image_2\|>, <\|image_1\|> in .* want <\|image_1\|>"),
        ("<|image_1|> <|image_1|>", 2, "in order"),
        ("<|image_1|> which", 2, r"1 placeholders .* want 2"),
        ("which", 1, r"0 placeholders <\|image_N\|> in 'which', want 1"),
        ("<|image_1|> which", 0, r"1 placeholders .* want 0"),
    ],
)
def test_placeholders_that_do_not_name_each_picture_in_order_are_refused(prompt, count, message):
    with pytest.raises(SampleError, match=message):
        model_of().processor.rows([prompt], [[Image.new("RGB", (28, 28))] * count])


def test_another_number_of_places_than_picture_tokens_is_refused_by_the_model():
    model = model_of()
    inputs = model.processor(CONTENTS[:1], "query")
    ids = inputs.dense["input_ids"].clone()
    count = int((ids < 0).sum())
    ids[0, 1] = 5
    with pytest.raises(SampleError, match=f"{count - 1} places .* pictures of {count} tokens"):
        model.encode_query(Inputs({**inputs.dense, "input_ids": ids}, inputs.ragged))
    with pytest.raises(SampleError, match=f"{count} places for picture tokens among the ids, but no picture"):
        model.encode_query(Inputs(inputs.dense))


def test_nothing_to_encode_is_refused():
    with pytest.raises(SampleError, match="neither text nor picture"):
        model_of().processor([Content("")], "query")


def test_max_length_cuts_text_rows_and_leaves_rows_with_pictures_whole():
    model = model_of(max_length=6)
    lengths = model.processor(CONTENTS, "query").dense["attention_mask"].sum(1).tolist()
    whole = model_of().processor(CONTENTS, "query").dense["attention_mask"].sum(1).tolist()
    assert lengths == [whole[0], 2, whole[2], 6] and whole[3] > 6
