"""Limits of a picture, pictures of odd shapes, and what stands for them in a prompt, family by family."""

import pytest
import torch
from PIL import Image

import mmret
from mmret.errors import ConfigError, SampleError
from mmret.models import VLM2Vec, VLM2VecConfig
from mmret.models.backbones.vlm import vlm_spec
from mmret.models.backbones.vlm_table import FAMILIES
from mmret.types import Content
from tests.unit.models.toys import picture
from tests.unit.models.vlm2vec.library import published
from tests.unit.models.vlm2vec.test_processor import processor_of

SQUARES = [kind for kind in FAMILIES if kind not in ("phi3_v", "composed")]


def places_of(kind, size, **limits):
    return sum(vlm_spec(f"tiny:{kind}").family(**limits).pictures([Image.new("RGB", size)]).places)


@pytest.mark.parametrize(
    ("kind", "limits", "size", "tokens"),
    [
        # Patches of 14 (16) px, four of which are a token.
        ("qwen2_vl", {"max_pixels": 56 * 56}, (200, 200), 4),
        ("qwen2_vl", {"min_pixels": 112 * 112}, (56, 56), 16),
        ("qwen3_vl", {"max_pixels": 64 * 64}, (200, 200), 4),
        ("qwen3_vl", {"min_pixels": 128 * 128}, (64, 64), 16),
        # Tiles of 56 px with four tokens, and the whole picture as one more.
        ("idefics3", {}, (200, 200), 4 * 5),
        ("idefics3", {"max_tiles": 9}, (200, 200), 4 * 10),
        ("idefics3", {"max_tiles": 8}, (200, 200), 4 * 5),
        ("smolvlm", {"max_tiles": 1}, (200, 200), 4),
        ("internvl", {}, (600, 150), 4 * 5),
        ("internvl", {"max_tiles": 2}, (600, 150), 4 * 3),
        ("internvl", {"max_tiles": 1}, (600, 150), 4),
        ("gemma3", {}, (600, 150), 4),
        ("gemma3", {"max_tiles": 3}, (600, 150), 4 * 4),
        ("gemma3", {"max_tiles": 3}, (150, 150), 4),
        ("gemma3", {"max_tiles": 1}, (600, 150), 4),
    ],
)
def test_limits_bound_the_tokens_of_a_picture(kind, limits, size, tokens):
    assert places_of(kind, size, **limits) == tokens


@pytest.mark.parametrize(
    ("kind", "limit", "has"),
    [
        ("paligemma", "max_tiles", "no limit of its own"),
        ("llava_next", "max_pixels", "no limit of its own"),
        ("internvl", "min_pixels", "model.max_tiles"),
        ("qwen2_5_vl", "max_tiles", "model.min_pixels and model.max_pixels"),
    ],
)
def test_a_limit_that_a_family_does_not_have_is_refused(kind, limit, has):
    with pytest.raises(ConfigError, match=rf"model\.{limit}: a {kind} model has {has}"):
        VLM2Vec.from_config(VLM2VecConfig(backbone=f"tiny:{kind}", **{limit: 4}))


def test_limits_that_cross_are_refused():
    with pytest.raises(ConfigError, match=r"min_pixels 20000 is more than the backbone's or model\.max_pixels 12544"):
        vlm_spec("tiny:qwen2_vl").family(min_pixels=20000)


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 30), (100, 3)])
def test_a_side_of_few_pixels_is_no_reason_to_stop(kind, size):
    model = VLM2Vec.from_config(VLM2VecConfig(backbone=f"tiny:{kind}")).eval()
    inputs = model.processor([Content("a", (picture(1, size),)), Content("b")], "query")
    assert torch.isfinite(model.encode_query(inputs).vectors).all()


@pytest.mark.parametrize("kind", SQUARES)
@pytest.mark.parametrize("size", [(1, 50), (50, 1), (3, 50), (50, 3), (3, 3)])
def test_rows_of_pixels_are_not_mistaken_for_colours(kind, size):
    # Image libraries guess from a side of 1 or 3 that it counts channels.
    family = vlm_spec(f"tiny:{kind}").family()

    def colour(size):
        pixels = family.pictures([Image.new("RGB", size, (200, 30, 90))]).tensors["pixel_values"]
        first = pixels.view(len(pixels), 3, -1)[0] if pixels.ndim == 2 else pixels[0].flatten(1)
        return first.mean(1)

    expected = colour((60, 60))
    found = colour(size)
    if kind == "llava_next":  # the whole picture comes first, without borders
        assert torch.allclose(found, expected, atol=1e-3)
    else:
        assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["idefics3", "smolvlm", "internvl", "gemma3", "paligemma", "llava_next"])
@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (32, 7000)])
def test_thin_strips_fit_where_pictures_become_squares(kind, size):
    model = VLM2Vec.from_config(VLM2VecConfig(backbone=f"tiny:{kind}")).eval()
    vectors = model.encode_query(model.processor([Content("a", (picture(1, size),))], "query")).vectors
    assert torch.isfinite(vectors).all()


@pytest.mark.parametrize("kind", FAMILIES)
def test_too_many_or_too_few_placeholders_are_refused(kind):
    processor = processor_of(kind)
    token = processor.family.PLACEHOLDER.format(1)
    with pytest.raises(SampleError, match=r"1 placeholders .* in its text, but 2 pictures"):
        processor([Content(f"{token} what", (picture(1), picture(2)))], "query")
    with pytest.raises(SampleError, match=r"1 placeholders .* in its text, but 0 pictures"):
        processor([Content(f"{token} what")], "query")
    with pytest.raises(SampleError, match=r"(?s)1 placeholders .* want 0"):
        processor.rows([f"{token} what"], [[]])


def test_a_text_with_the_token_that_stands_for_features_is_refused():
    with pytest.raises(SampleError, match=r"2 placeholders <image_soft_token> in .* want 1"):
        processor_of("gemma3")([Content("<image_soft_token>", (picture(1),))], "query")


@pytest.mark.parametrize("kind", FAMILIES)
def test_neither_text_nor_picture_is_refused(kind):
    with pytest.raises(SampleError, match="q3: neither text nor picture"):
        processor_of(kind)([Content("a"), Content("", id="q3")], "query")


@pytest.mark.parametrize(
    ("kind", "ours", "theirs"),
    [
        ("idefics3", 9, {"size": {"longest_edge": 168}}),
        ("internvl", 2, {"max_patches": 2}),
        (
            "gemma3",
            3,
            {
                "do_pan_and_scan": True,
                "pan_and_scan_min_crop_size": 20,
                "pan_and_scan_max_num_crops": 3,
                "pan_and_scan_min_ratio_to_activate": 1.2,
            },
        ),
    ],
)
def test_tiles_within_a_limit_are_the_librarys(kind, ours, theirs, tmp_path):
    _, processor = published(kind, tmp_path)
    model = mmret.load(tmp_path, max_tiles=ours)
    image = picture(5, (150, 60))
    expected = processor(
        text=[f"{model.family.PLACEHOLDER} map"], images=[[image.decode()]], return_tensors="pt", **theirs
    )
    inputs = model.processor([Content("map", (image,))], "query")
    assert torch.equal(inputs.dense["input_ids"], expected["input_ids"])
    assert torch.equal(inputs.ragged["pixel_values"][0].flatten(), expected["pixel_values"].float().flatten())
