"""Pictures with hidden patches, and the start from BEiT, against timm's BEiT with the same weights."""

import pytest
import torch

from mmret.models import MaskedImageEncoder, VLMo, VLMoConfig
from mmret.models.vlmo import VISION_STAGE
from mmret.objectives import MIM, MIMConfig, Step
from mmret.training.optim import scale_of_parameters
from mmret.types import Batch
from tests.unit.models.vlmo.toys import SIZE, pictures, toy_model

MASK = torch.tensor([[True, False, False, True], [False, True, False, False], [False, False, False, False]])


def timm_beit(positions):
    """A BEiT of the toys' size with random weights; its final norm stays, as before fine-tuning."""
    from timm.models.beit import Beit

    torch.manual_seed(5)
    kinds = {
        "own": {"use_rel_pos_bias": True},
        "shared": {"use_shared_rel_pos_bias": True},
        "absolute": {"use_abs_pos_emb": True},
    }
    settings = {"use_abs_pos_emb": False, **kinds[positions]}
    model = Beit(
        16, 8, embed_dim=16, depth=3, num_heads=2, init_values=0.1, num_classes=7, global_pool="token", **settings
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def published(beit, layers=3):
    """Its file as the BEiT authors publish: under `model`, with index tables."""
    state = dict(beit.state_dict())
    for layer in range(layers):
        if f"blocks.{layer}.attn.relative_position_bias_table" in state:
            state[f"blocks.{layer}.attn.relative_position_index"] = torch.zeros(5, 5).long()
    return {"model": state}


def started(path, positions, **settings):
    """A language-stage model from the file, by the recipe's key; type embeddings, which BEiT lacks, are nothing."""
    config = VLMoConfig(
        **{
            **{"size": "tiny", "tokenizer": "tiny", "vocabulary": 300, "relative_text_span": 12, "weights": str(path)},
            **{**SIZE, "vl_layers": 0, "contrastive": "none", "drop_path": 0.0},
            **{"positions": "absolute" if positions == "absolute" else "relative"},
            **settings,
        }
    )
    model = VLMo.from_config(config).eval()
    with torch.no_grad():
        model.backbone.modality.weight.zero_()
    return model


@pytest.mark.parametrize("positions", ["own", "shared", "absolute"])
def test_a_beit_file_starts_a_model_that_sees_as_beit_does(positions, tmp_path):
    beit = timm_beit(positions)
    torch.save(published(beit), tmp_path / "beit.pth")
    states = started(tmp_path / "beit.pth", positions).encode_image(pictures())
    torch.testing.assert_close(states, beit.forward_features(pictures().dense["pixel_values"]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("positions", ["own", "shared", "absolute"])
def test_the_mask_token_stands_for_hidden_patches_before_positions(positions, tmp_path):
    """In timm's BEiT, the token is put in behind its patch convolution."""
    beit = timm_beit(positions)
    torch.save(published(beit), tmp_path / "beit.pth")
    token = torch.randn(16)
    beit.patch_embed.register_forward_hook(lambda module, inputs, out: torch.where(MASK.unsqueeze(2), token, out))
    expected = beit.forward_features(pictures().dense["pixel_values"])[:, 1:]
    states = started(tmp_path / "beit.pth", positions).encode_image_masked(pictures(), MASK, token)
    torch.testing.assert_close(states, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"positions": "absolute", "layer_scale": 0.0}, {"multiway": False}])
def test_what_is_hidden_is_not_seen_and_the_rest_is(settings):
    model, token = toy_model(**settings), torch.randn(16)
    assert isinstance(model, MaskedImageEncoder)
    one, two = pictures(), pictures()
    hidden = MASK.view(3, 1, 2, 2).repeat_interleave(8, 2).repeat_interleave(8, 3)
    two.dense["pixel_values"].copy_(torch.where(hidden, torch.randn(3, 3, 16, 16), one.dense["pixel_values"]))
    states = model.encode_image_masked(one, MASK, token)
    assert torch.equal(states, model.encode_image_masked(two, MASK, token))
    torch.testing.assert_close(states[2], model.encode_image(one)[2, 1:])
    assert not torch.allclose(states[0], model.encode_image(one)[0, 1:], atol=1e-3)


def test_the_model_has_no_mask_token():
    """It is the objective's: a model's folder and published files are the same with and without a vision stage."""
    assert not [name for name in toy_model().state_dict() if "mask" in name]


@pytest.mark.parametrize(
    "settings", [{"vl_layers": 0}, {}, {"multiway": False}, {"shared_attention": False}, {"positions": "absolute"}]
)
def test_the_vision_stage_trains_what_masked_pictures_reach_and_nothing_else(settings):
    model = toy_model(**settings)
    objective = MIM(MIMConfig(tokenizer="unused"), 16, 5, 2)
    objective._opened.append(lambda pixels, window: torch.arange(4).expand(len(pixels), 4))
    objective(Step(model, Batch(pictures(), None, 0, masked_image=MASK))).loss.backward()
    parameters = {f"model.{name}": p for name, p in model.named_parameters()}
    parameters |= {f"objectives.mim.{name}": p for name, p in objective.named_parameters()}
    scales = scale_of_parameters(parameters, VISION_STAGE)
    reached = {name for name, p in parameters.items() if p.grad is not None}
    assert reached == {name for name, scale in scales.items() if scale > 0}
