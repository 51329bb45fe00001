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
