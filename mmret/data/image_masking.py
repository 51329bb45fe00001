"""Blocks of hidden patches for masked image modelling: a pure function of each row's key."""

# B rows, P = window^2 patches

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mmret.data.dice import Dice
from mmret.recipe.schema import ImageMaskingConfig

ATTEMPTS = 10
"""Blocks tried in a row before what is open of the share stays open."""


def mask_blocks(window: int, config: ImageMaskingConfig, keys: Sequence[tuple[object, ...]]) -> Tensor:
    """Which patches to hide (BEiT, Alg. 1, as its released code counts: never more than the share).

    Rectangles of random area, shape and place are hidden, and may overlap, until the share is reached or the next
    smallest block would pass it. At least one patch of each row is hidden.

    Args:
        window: patches along one side of a picture.
        keys: for each row what its draws are a function of (seed, source, epoch, sample).

    Returns:
        [B, P] bool, patches row by row from the top left.
    """
    rows = [_blocks(window, config, Dice("image_mask", *key)) for key in keys]
    return torch.tensor(rows, dtype=torch.bool).view(len(rows), window * window)


def _blocks(window: int, config: ImageMaskingConfig, dice: Dice) -> list[bool]:
    patches = window * window
    wanted = max(1, round(config.fraction * patches))
    smallest = min(config.min_patches, wanted)
    hidden: set[int] = set()
    attempts = 0
    while wanted - len(hidden) >= smallest and attempts < ATTEMPTS:
        new = _block(window, smallest, wanted - len(hidden), config.min_aspect, dice) - hidden
        attempts += 1
        if 0 < len(new) <= wanted - len(hidden):
            hidden |= new
            attempts = 0
    if config.exact or not hidden:
        left = [place for place in range(patches) if place not in hidden]
        hidden |= {left[at] for at in dice.sample(len(left), wanted - len(hidden))}
    return [place in hidden for place in range(patches)]


def _block(window: int, smallest: int, largest: int, min_aspect: float, dice: Dice) -> set[int]:
    """Places of a rectangle of `smallest` to `largest` patches, up to rounding; none if the window is too short."""
    area = dice.between(smallest, largest)
    aspect = math.exp(dice.between(math.log(min_aspect), -math.log(min_aspect)))
    height, width = max(1, round(math.sqrt(area * aspect))), max(1, round(math.sqrt(area / aspect)))
    if height > window or width > window:
        return set()
    top, left = dice.below(window - height + 1), dice.below(window - width + 1)
    return {row * window + column for row in range(top, top + height) for column in range(left, left + width)}
