"""The interface of a visual tokenizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate


@dataclass(frozen=True)
class TokenizerFacts:
    """What can be known of a visual tokenizer without building it."""

    num_tokens: int
    window: int | None
    """Patches along one side of the pictures that it was made for; None: any."""


class VisualTokenizer(nn.Module, ABC):
    """Pictures to token numbers, one for each patch. Never trains: in eval mode, without gradients, in float32."""

    facts: TokenizerFacts

    def __init__(self, facts: TokenizerFacts) -> None:
        super().__init__()
        self.facts = facts

    def frozen(self) -> VisualTokenizer:
        """Itself, its parameters out of any gradient; called once its weights are in."""
        return self.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, pixels: Tensor, window: int) -> Tensor:
        """Tokens [B, P] int64, patches row by row from the top left.

        Args:
            pixels: [B, 3, px, px] in [0, 1], of any size: normalising and resizing is the tokenizer's own affair.
            window: patches along one side, P = window^2.
        """
        with torch.autocast(pixels.device.type, enabled=False):
            return self.tokens(pixels.float(), window)

    @abstractmethod
    def tokens(self, pixels: Tensor, window: int) -> Tensor:
        """`forward` in float32, without gradients."""


def resized(maps: Tensor, px: int) -> Tensor:
    """[B, C, h, w] to [B, C, px, px], averaging where it shrinks; as it is where the size is right."""
    if maps.shape[-2:] == (px, px):
        return maps
    return interpolate(maps, (px, px), mode="bilinear", antialias=True)
