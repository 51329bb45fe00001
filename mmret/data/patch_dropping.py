"""Pictures of which some patches are left out in training (FLIP, Li et al. 2023): a pure function of each row's key."""

# N pictures, P patches, K of them kept

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mmret.data.dice import Dice
from mmret.errors import ConfigError
from mmret.types import Inputs

KEPT = "kept_patches"
"""Name of the input [N, K] int64 that says which patches of each picture the vision tower reads."""


def patches_of(processor: Any) -> int:
    """P of the model that owns this processor.

    Raises:
        ConfigError: it reads whole pictures only.
    """
    patches = getattr(processor, "patches", None)
    if patches is None:
        raise ConfigError(
            f"data.drop_patches: the model of {type(processor).__name__} reads whole pictures only (a convolutional "
            "tower, one that knows patches by their neighbours, or none at all); VLMo and PreFLMR's CLIP, SigLIP and "
            "plain timm vision transformers can leave patches out. Set data.drop_patches: 0"
        )
    return patches


def drop_patches(inputs: Inputs, patches: int, fraction: float, keys: Sequence[tuple[object, ...]]) -> Inputs:
    """The inputs with `kept_patches`; as they are where they bring no pictures.

    Args:
        keys: for each row what its draws are a function of (seed, source, epoch, sample, ...).

    Raises:
        ConfigError: rows have several pictures, or outputs of whole ones from a feature cache.
    """
    if "vision_features" in inputs:
        raise ConfigError(
            "data.drop_patches: the vision tower's outputs come from the feature cache, which keeps those of whole "
            "pictures; train the tower, leave feature_cache out, or set data.drop_patches: 0"
        )
    if "pixel_values" not in inputs:
        return inputs
    if inputs.dense["pixel_values"].dim() != 4:
        raise ConfigError("data.drop_patches wants one picture in each row, and here rows have several; set it to 0")
    return replace(inputs, dense={**inputs.dense, KEPT: kept_patches(patches, fraction, keys)})


def kept_patches(patches: int, fraction: float, keys: Sequence[tuple[object, ...]]) -> Tensor:
    """[N, K] int64, the places of what stays, rising: K = (1 - fraction) P, rounded, at least 1."""
    count = max(1, round((1 - fraction) * patches))
    return torch.tensor([sorted(Dice("drop_patches", *key).sample(patches, count)) for key in keys])
