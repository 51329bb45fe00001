import math

import pytest
import torch
from torch import nn

from mmret.errors import ConfigError
from mmret.models import VLM2Vec
from mmret.models.backbones import PictureSettings
from mmret.objectives import MIM, MIMConfig, Step
from mmret.types import Batch, Inputs
from tests.unit.models.toys import toy_model as toy_preflmr
from tests.unit.models.visual_tokenizer.toys import dalle, write_codebook, write_dalle
from tests.unit.models.vlmo.toys import pictures, toy_model

MASK = torch.tensor([[True, False, False, True], [False, True, False, False], [False, False, False, False]])


class Plain(nn.Module):
    """A model whose state of a patch is its first pixel's first two channels, or the token where it is hidden."""

    width = 2
    processor = None

    def encode_image_masked(self, image, mask, token):
        pixels = image.dense["pixel_values"]
        states = pixels[:, :2, ::8, ::8].flatten(2).transpose(1, 2)
        return torch.where(mask.unsqueeze(2), token, states)


def tokens_of(table):
    return lambda pixels, window: torch.tensor(table)


def test_loss_is_the_mean_surprise_of_hidden_patches_by_hand():
    """Token (1, 0), head with rows (0, 0), (ln 2, 0), (ln 5, 0): shares 1/8, 2/8, 5/8. Hidden: tokens 2, 1, 0."""
    objective = MIM(MIMConfig(tokenizer="unused"), 2, 3, 2)
    with torch.no_grad():
        objective.mask_token.copy_(torch.tensor([1.0, 0.0]))
        objective.head.weight.copy_(torch.tensor([[0.0, 0.0], [math.log(2), 0.0], [math.log(5), 0.0]]))
    objective._opened.append(tokens_of([[2, 0, 0, 1], [2, 0, 2, 2], [1, 1, 1, 1]]))
    output = objective(Step(Plain(), Batch(pictures(), None, 0, masked_image=MASK)))
    expected = -(math.log(5 / 8) + math.log(2 / 8) + math.log(1 / 8)) / 3
    assert float(output.loss.detach()) == pytest.approx(expected, rel=1e-6)
    assert float(output.metrics["accuracy"]) == pytest.approx(1 / 3)


def test_seen_patches_cost_nothing():
    objective = MIM(MIMConfig(tokenizer="unused"), 2, 3, 2)
    step = Step(Plain(), Batch(pictures(), None, 0, masked_image=MASK))
    losses = []
    for seen in (0, 1):
        table = torch.full((3, 4), seen)
        table[MASK] = 2
        objective._opened = [tokens_of(table.tolist())]
        losses.append(float(objective(step).loss.detach()))
    assert losses[0] == losses[1]


def test_a_batch_with_nothing_hidden_costs_nothing_and_still_backpropagates():
    model, objective = toy_model(), MIM(MIMConfig(tokenizer="unused"), 16, 3, 2)
    objective._opened.append(tokens_of([[0] * 4] * 3))
    loss = objective(Step(model, Batch(pictures(), None, 0, masked_image=MASK & False))).loss
    loss.backward()
    assert loss == 0 and objective.head.weight.grad.abs().sum() == 0


def test_a_batch_without_masks_says_who_makes_them():
    objective = MIM(MIMConfig(tokenizer="unused"), 16, 3, 2)
    with pytest.raises(ValueError, match="hides no patches"):
        objective(Step(toy_model(), Batch(pictures(), None, 0)))


def for_toy(path, **settings):
    return MIM.for_model(MIMConfig(tokenizer=str(path), **settings), toy_model())


def test_the_head_has_the_tokenizers_size_and_the_config_says_it(tmp_path):
    objective = for_toy(write_dalle(tmp_path / "encoder.pt", num_tokens=16))
    assert objective.head.weight.shape == (16, 16)
    assert objective.config.num_tokens == 16


@pytest.mark.parametrize("mean_std", [((0.5,) * 3, (0.5,) * 3), ((0.48, 0.46, 0.41), (0.27, 0.26, 0.28))])
def test_tokens_do_not_depend_on_how_the_model_normalises(mean_std, tmp_path):
    path = write_dalle(tmp_path / "encoder.pt")
    shown = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    model = toy_model()
    mean, std = mean_std
    model.processor.picture = PictureSettings(16, mean, std, "squash")
    objective = MIM.for_model(MIMConfig(tokenizer=str(path)), model)
    normalised = (shown - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    expected = dalle().logits(0.8 * shown + 0.1)
    chosen = expected.gather(1, objective.tokens(normalised).view(2, 1, 2, 2))
    torch.testing.assert_close(chosen, expected.max(1, keepdim=True).values, rtol=1e-4, atol=1e-4)


def test_the_tokenizer_is_no_part_of_the_objective_but_goes_where_it_goes(tmp_path):
    objective = for_toy(write_dalle(tmp_path / "encoder.pt"))
    objective.prepare()
    assert {name for name, _ in objective.named_parameters()} == {"mask_token", "head.weight", "head.bias"}
    assert objective.state_dict().keys() == {"mask_token", "head.weight", "head.bias"}
    assert {name for name, _ in objective.named_buffers()} == {"mean", "std"}
    objective.train()
    assert not objective.tokenizer.training
    objective.to(torch.float64)
    assert objective.tokenizer.blocks.input.w.dtype == torch.float64
    objective.to("meta")
    assert objective.tokenizer.blocks.input.w.device.type == "meta"


def test_no_gradient_reaches_tokenizer_or_pixels(tmp_path):
    objective, model = for_toy(write_dalle(tmp_path / "encoder.pt")), toy_model()
    inputs = pictures()
    objective(Step(model, Batch(inputs, None, 0, masked_image=MASK))).loss.backward()
    assert all(p.grad is None for p in objective.tokenizer.parameters())
    assert objective.mask_token.grad.abs().sum() > 0


def test_a_tokenizer_that_is_not_here_stops_the_start_and_not_the_reading_of_heads(tmp_path):
    missing = str(tmp_path / "none.pt")
    with pytest.raises(ConfigError, match=r"mim\.tokenizer: .*none\.pt: no such file"):
        for_toy(missing)
    objective = for_toy(missing, num_tokens=9)
    assert objective.head.weight.shape == (9, 16)
    with pytest.raises(ConfigError, match=r"mim\.tokenizer: .*none\.pt: no such file"):
        objective.prepare()


def test_a_tokenizer_of_other_patches_is_refused(tmp_path):
    folder = write_codebook(tmp_path / "codebook", window=4)
    with pytest.raises(ConfigError, match="made for pictures of 4 x 4 patches, the model has 2 x 2"):
        for_toy(folder)
    assert for_toy(write_codebook(tmp_path / "other", window=2)).config.num_tokens == 6


def test_a_wrong_number_of_tokens_and_a_wrong_file_are_refused(tmp_path):
    path = write_dalle(tmp_path / "encoder.pt", num_tokens=16)
    with pytest.raises(ConfigError, match=r"mim\.num_tokens: 8192 in the recipe, but .* has 16"):
        for_toy(path, num_tokens=8192)
    torch.save({"x": torch.zeros(1)}, tmp_path / "x.pt")
    with pytest.raises(ConfigError, match=r"mim\.tokenizer: .* is no DALL-E encoder"):
        for_toy(tmp_path / "x.pt")
    with pytest.raises(ConfigError, match="at least 2"):
        MIMConfig(tokenizer="x", num_tokens=1)


def test_models_that_hide_no_patches_are_refused(tmp_path):
    path = write_dalle(tmp_path / "encoder.pt")
    with pytest.raises(ConfigError, match="PreFLMR cannot"):
        MIM.for_model(MIMConfig(tokenizer=str(path)), toy_preflmr())
    assert not hasattr(VLM2Vec, "encode_image_masked")
    with pytest.raises(ValueError, match="does not read pictures with hidden patches"):
        _ = Step(nn.Identity(), Batch(Inputs({"x": torch.zeros(1)}), None, 0)).image_encoder
