import pytest
import torch

from mmret.models import VLMo, VLMoConfig
from mmret.models.backbones import VisionSpec
from mmret.models.backbones.vision import CLIP_BASE, build_vision
from mmret.types import Inputs
from tests.unit.models.toys import picture, toy_model

KEPT = torch.tensor([[0, 2, 5], [1, 2, 15], [3, 8, 9]])
"""Of 4 x 4 patches."""


def spoiled(pixels, kept, patch):
    """Noise in all patches that are not kept."""
    side = pixels.shape[-1] // patch
    keep = torch.zeros(len(pixels), side * side).scatter_(1, kept, 1.0).view(-1, 1, side, side)
    keep = keep.repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    return pixels * keep + 5 * torch.randn_like(pixels) * (1 - keep)


def vlmo(positions):
    torch.manual_seed(0)
    model = VLMo(VLMoConfig(size="tiny", tokenizer="tiny", image_px=32, patch_px=8))
    if positions == "relative":
        from mmret.models.vlmo.position import RelativePositions

        config = model.config
        blocks = model.backbone.blocks
        model.backbone.positions = RelativePositions(config.window, 196, blocks[0].heads, len(blocks))
        torch.nn.init.normal_(model.backbone.positions.table, std=0.5)
        model.backbone.image.position = None
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model.eval()


def image(pixels, kept=None):
    return Inputs({"pixel_values": pixels} | ({} if kept is None else {"kept_patches": kept}))


@pytest.mark.parametrize("positions", ["absolute", "relative"])
def test_vlmo_sees_what_it_would_if_no_one_attended_to_dropped_patches(positions):
    model, pixels = vlmo(positions), torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        found = model.encode_image(image(pixels, KEPT))
        whole = model.embed_image(image(pixels))
        hide = torch.full((3, 1, 1, 17), -torch.inf)
        hide[:, 0, 0, 0] = 0
        hide[:, 0, 0].scatter_(1, KEPT + 1, 0.0)
        masked = type(whole)(whole.hidden, 0, 17, hide, whole.index)
        reference = model.backbone.norm(model.backbone.run(masked))
    places = torch.cat([torch.zeros(3, 1, dtype=torch.int64), KEPT + 1], 1)
    expected = reference.gather(1, places[:, :, None].expand(-1, -1, reference.shape[2]))
    assert found.shape == (3, 4, model.width)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.encode_image(image(spoiled(pixels, KEPT, 8), KEPT)), found)


@pytest.mark.parametrize("positions", ["absolute", "relative"])
def test_vlmo_reads_pairs_and_trains_without_the_dropped_patches(positions):
    model, pixels = vlmo(positions), torch.randn(3, 3, 32, 32)
    ids = torch.randint(5, 50, (3, 6))
    text = Inputs({"input_ids": ids, "attention_mask": torch.tensor([[1] * 6, [1] * 4 + [0] * 2, [1] * 5 + [0]])})
    every = torch.arange(16).expand(3, -1)
    whole = model.encode_pair(text, image(pixels))
    torch.testing.assert_close(model.encode_pair(text, image(pixels, every)).pooled, whole.pooled)
    some = model.encode_pair(text, image(pixels, KEPT))
    assert some.image.shape[1] == 4
    spoilt = model.encode_pair(text, image(spoiled(pixels, KEPT, 8), KEPT))
    torch.testing.assert_close(some.pooled, spoilt.pooled)
    alone = [model.encode_pair(text.select([row]), image(pixels, KEPT).select([row])).pooled for row in range(3)]
    torch.testing.assert_close(torch.cat(alone), some.pooled, atol=1e-5, rtol=1e-4)
    some.pooled.sum().backward()
    assert model.backbone.image.patch.weight.grad.abs().sum() > 0


def tower(kind):
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
    if kind == "timm":
        built = build_vision(VisionSpec("timm", {"model": "vit_tiny_patch16_224"}, 64))
    elif kind == "siglip":
        built = build_vision(VisionSpec("siglip", {**sizes, "image_size": 64, "patch_size": 16}, 64))
    else:
        built = build_vision(VisionSpec("clip", {**CLIP_BASE, **sizes, "image_size": 64, "patch_size": 16}, 64))
    return built.eval()


@pytest.mark.parametrize("kind", ["clip", "siglip", "timm"])
def test_towers_never_see_dropped_patches(kind):
    model, pixels = tower(kind), torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        overall, patches = model(pixels, KEPT)
        assert patches.shape == (3, 3, model.width) and overall.shape == (3, model.width)
        for mine, theirs in zip(model(spoiled(pixels, KEPT, 16), KEPT), (overall, patches)):
            torch.testing.assert_close(mine, theirs)
        for mine, theirs in zip(model(pixels, torch.arange(16).expand(3, -1)), model(pixels)):
            torch.testing.assert_close(mine, theirs)
        moved, _ = model(spoiled(pixels, KEPT.roll(1, 0), 16), KEPT)
        assert not torch.allclose(moved, overall, atol=1e-3)
    assert model.drops_patches and model.num_patches == 16


def test_other_timm_towers_read_whole_pictures():
    for name in ("resnet10t", "eva02_tiny_patch14_224"):
        model = build_vision(VisionSpec("timm", {"model": name}, 56))
        assert not model.drops_patches
        with pytest.raises(ValueError, match="reads whole pictures only, but kept_patches are given"):
            model(torch.randn(1, 3, 56, 56), torch.tensor([[0]]))


def test_preflmr_scores_only_the_patches_that_are_kept():
    model = toy_model()
    inputs = model.processor([_question(1), _question(2)], "query")
    whole = model.encode_query(inputs)
    kept = torch.tensor([[0, 3], [1, 2]])
    some = model.encode_query(Inputs({**inputs.dense, "kept_patches": kept}))
    assert whole.vectors.shape[1] - some.vectors.shape[1] == 2 and model.processor.patches == 4
    pixels = spoiled(inputs.dense["pixel_values"], kept, 4)
    again = model.encode_query(Inputs({**inputs.dense, "pixel_values": pixels, "kept_patches": kept}))
    torch.testing.assert_close(again.vectors, some.vectors)


def _question(seed):
    from mmret.types import Content

    return Content("what is this", (picture(seed),), "look")
