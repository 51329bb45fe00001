"""A visual tokenizer that needs no file: each patch's mean colour in 64 steps. For toys and tests."""

from __future__ import annotations

import torch
from torch import Tensor

from mmret.models.visual_tokenizer.tokenizer import TokenizerFacts, VisualTokenizer, resized

LEVELS = 4
"""Steps of each of red, green and blue."""
MEAN_COLOUR = TokenizerFacts(num_tokens=LEVELS**3, window=None)


class MeanColour(VisualTokenizer):
    """Token 16 r + 4 g + b, each of the mean channel values in steps of a quarter."""

    def __init__(self) -> None:
        super().__init__(MEAN_COLOUR)

    def tokens(self, pixels: Tensor, window: int) -> Tensor:
        """[B, P] int64 of pixels [B, 3, px, px] in [0, 1]."""
        side = max(pixels.shape[-1] // window, 1) * window
        means = torch.nn.functional.avg_pool2d(resized(pixels, side), side // window).flatten(2)
        steps = (means * LEVELS).long().clamp(0, LEVELS - 1)
        red, green, blue = steps.unbind(1)
        return LEVELS**2 * red + LEVELS * green + blue
