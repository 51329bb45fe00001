"""Which vision-language model a name means, and what is made of it."""

import pytest
import torch

from mmret.models.backbones.vlm import build_vlm, vlm_spec
from mmret.models.backbones.vlm_composed import COMPOSED
from mmret.models.backbones.vlm_table import FAMILIES


@pytest.mark.parametrize("kind", [kind for kind in FAMILIES if kind != COMPOSED])
def test_bfloat16_is_the_weights_type_and_not_that_of_rotary_frequencies(kind):
    # Eight bits of a frequency are off by a whole turn at a few hundred tokens.
    vlm = build_vlm(vlm_spec(f"tiny:{kind}"), torch.bfloat16, "sdpa")
    assert {parameter.dtype for parameter in vlm.parameters()} == {torch.bfloat16}
    rounded = [name for name, buffer in vlm.named_buffers() if "freq" in name and buffer.dtype != torch.float32]
    assert rounded == []


@pytest.mark.parametrize(
    ("name", "published", "head"),
    [
        ("microsoft/Phi-3.5-vision-instruct", 4_146_621_440, 32_064 * 3_072),
        ("Qwen/Qwen2-VL-2B-Instruct", 2_208_985_600, 0),  # the head is the token table
        ("Qwen/Qwen2-VL-7B-Instruct", 8_291_375_616, 152_064 * 3_584),
    ],
)
def test_sizes_known_without_a_download_are_those_of_the_published_weights(name, published, head, monkeypatch):
    monkeypatch.setattr("mmret.models.backbones.vlm.find_local", lambda _: None)
    with torch.device("meta"):
        vlm = build_vlm(vlm_spec(name, download=False), torch.float32, "sdpa")
    assert sum(parameter.numel() for parameter in vlm.parameters()) == published - head
