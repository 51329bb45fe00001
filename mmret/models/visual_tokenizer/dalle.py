"""The encoder of DALL-E's discrete VAE (Ramesh et al. 2021, App. A): BEiT's visual tokenizer."""

# B pictures, K tokens, w window

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from mmret.errors import CheckpointError
from mmret.models.visual_tokenizer.tokenizer import TokenizerFacts, VisualTokenizer, resized
from mmret.models.weights import load_strictly, read_weights

GROUPS = 4
SHRINK = 8
"""Pixels of one token's side: a pool after each group but the last."""
LOGIT_LAPLACE_EPS = 0.1
"""Pixels are moved from [0, 1] to [0.1, 0.9], the range of the VAE's output distribution (App. A.3)."""
FIRST, LAST = "blocks.input.w", "blocks.output.conv.w"
PICKLED = (
    "It is the published pickled module, which would run code. Take its state dict out, once, where the dall_e package "
    "is installed and the file is trusted: "
    "python -c \"import torch; torch.save(torch.load('encoder.pkl', map_location='cpu', weights_only=False)"
    ".state_dict(), 'encoder.pt')\" and name encoder.pt"
)


class Conv(nn.Module):
    """A convolution that keeps the size; parameters `w` and `b`, as the published state dict calls them."""

    def __init__(self, inputs: int, outputs: int, side: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(outputs, inputs, side, side) / math.sqrt(inputs * side * side))
        self.b = nn.Parameter(torch.zeros(outputs))

    def forward(self, maps: Tensor) -> Tensor:
        """[B, inputs, h, w] -> [B, outputs, h, w]."""
        return conv2d(maps, self.w, self.b, padding=self.w.shape[-1] // 2)


class Block(nn.Module):
    """A bottleneck of a quarter of the width beside a shortcut, weighed by 1 / layers^2."""

    def __init__(self, inputs: int, outputs: int, layers: int) -> None:
        super().__init__()
        inner = outputs // 4
        self.gain = 1 / layers**2
        self.id_path = nn.Identity() if inputs == outputs else Conv(inputs, outputs, 1)
        sizes = [(inputs, inner, 3), (inner, inner, 3), (inner, inner, 3), (inner, outputs, 1)]
        parts = [(f"{kind}_{n}", part) for n, size in enumerate(sizes, 1)
                 for kind, part in (("relu", nn.ReLU()), ("conv", Conv(*size)))]  # fmt: skip
        self.res_path = nn.Sequential(OrderedDict(parts))

    def forward(self, maps: Tensor) -> Tensor:
        """[B, inputs, h, w] -> [B, outputs, h, w]."""
        return self.id_path(maps) + self.gain * self.res_path(maps)


class DalleEncoder(VisualTokenizer):
    """Four groups of residual blocks, 8 pixels a token, the likeliest of K tokens.

    Pictures are first brought to 8 pixels a patch (112 px for 14 patches a side), whatever the model's patch is: so
    BEiT reads 224 px pictures at half size. From the model's own pixels here, where BEiT resizes the file a second
    time with another filter.

    Args:
        width: maps of the first group; published: 256.
        blocks: per group; published: 2.
        num_tokens: published: 8192.
    """

    def __init__(self, width: int = 256, blocks: int = 2, num_tokens: int = 8192) -> None:
        super().__init__(TokenizerFacts(num_tokens, None))
        layers = GROUPS * blocks
        parts: list[tuple[str, nn.Module]] = [("input", Conv(3, width, 7))]
        inputs = width
        for group in range(GROUPS):
            outputs = width * 2**group
            inside: list[tuple[str, nn.Module]] = []
            for block in range(blocks):
                inside.append((f"block_{block + 1}", Block(inputs, outputs, layers)))
                inputs = outputs
            if group < GROUPS - 1:
                inside.append(("pool", nn.MaxPool2d(2)))
            parts.append((f"group_{group + 1}", nn.Sequential(OrderedDict(inside))))
        output = OrderedDict[str, nn.Module](relu=nn.ReLU(), conv=Conv(inputs, num_tokens, 1))
        parts.append(("output", nn.Sequential(output)))
        self.blocks = nn.Sequential(OrderedDict(parts))

    def tokens(self, pixels: Tensor, window: int) -> Tensor:
        """[B, 3, px, px] in [0, 1] -> [B, P]."""
        pixels = resized(pixels, SHRINK * window)
        return self.logits((1 - 2 * LOGIT_LAPLACE_EPS) * pixels + LOGIT_LAPLACE_EPS).argmax(1).flatten(1)

    def logits(self, mapped: Tensor) -> Tensor:
        """[B, 3, 8w, 8w] in [0.1, 0.9] -> [B, K, w, w]."""
        return self.blocks(mapped)


def read_dalle(path: Path) -> dict[str, Tensor]:
    """The state dict in a file.

    Raises:
        CheckpointError: it is no file of plain tensors (the published one is a pickled module), or another model's.
    """
    try:
        state = read_weights(path)
    except CheckpointError as error:
        if path.is_file() and "more than plain tensors" in str(error):
            raise CheckpointError(f"{path} is no state dict. {PICKLED}") from error
        raise
    if FIRST not in state or LAST not in state:
        raise CheckpointError(
            f"{path} is no DALL-E encoder: {FIRST} and {LAST} are not both there ({len(state)} entries). The decoder "
            "does not tokenize; a tokenizer that `mmret codebook` made is named by its folder"
        )
    return state


def dalle_facts(path: Path) -> TokenizerFacts:
    """Of a file, by the shape of its last layer."""
    return TokenizerFacts(len(read_dalle(path)[LAST]), None)


def load_dalle(path: Path) -> DalleEncoder:
    """The encoder in a file, its sizes read off its shapes; every tensor must be there, and no other."""
    state = read_dalle(path)
    encoder = DalleEncoder(len(state[FIRST]), _blocks(state), len(state[LAST]))
    load_strictly(encoder, {key: value.float() for key, value in state.items()}, f"the DALL-E encoder in {path}")
    return encoder


def _blocks(state: Mapping[str, Tensor]) -> int:
    found = {key.split(".")[2] for key in state if key.startswith("blocks.group_1.block_")}
    return max(len(found), 1)
