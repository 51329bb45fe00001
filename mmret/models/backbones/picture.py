"""Pictures to normalised pixels, as CLIP's published preprocessing does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmret.errors import SampleError
from mmret.types import Content, Role

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class PictureSettings:
    """What a vision tower wants to see."""

    px: int
    """Width and height of its input."""
    mean: tuple[float, ...] = CLIP_MEAN
    """Per channel, of values in [0, 1]."""
    std: tuple[float, ...] = CLIP_STD
    fit: str = "crop"
    """crop: shortest side to px, then the centre (CLIP); squash: both sides to px, nothing is cut off."""


def pixels(image: Image.Image, settings: PictureSettings) -> Tensor:
    """[3, px, px] float32. Equals transformers' Pillow image processor for CLIP bit for bit (with fit: crop)."""
    px = settings.px
    if settings.fit == "squash":
        image = image.resize((px, px), Image.Resampling.BICUBIC)
    else:
        width, height = image.size
        # The longer side is rounded down, as the published preprocessing does.
        size = (px, int(px * height / width)) if width <= height else (int(px * width / height), px)
        image = image.resize(size, Image.Resampling.BICUBIC)
        left, top = (size[0] - px) // 2, (size[1] - px) // 2
        image = image.crop((left, top, left + px, top + px))
    return _normalise(np.asarray(image.convert("RGB")), settings)


def black(settings: PictureSettings) -> Tensor:
    """[3, px, px]: a black picture, which stands in for a missing one."""
    return _normalise(np.zeros((settings.px, settings.px, 3), dtype=np.uint8), settings)


def refuse_videos(contents: Sequence[Content], role: Role, model: str) -> None:
    """For models that see still pictures only.

    Raises:
        SampleError: a content has a video.
    """
    for row, content in enumerate(contents):
        if content.video is not None:
            name = content.id or f"{role} {row}"
            raise SampleError(f"{name} has a video, which {model} does not read; give it frames as images")


def _normalise(values: np.ndarray, settings: PictureSettings) -> Tensor:
    scaled = (values.astype(np.float64) * (1 / 255)).astype(np.float32)
    mean, std = np.asarray(settings.mean, dtype=np.float32), np.asarray(settings.std, dtype=np.float32)
    return torch.from_numpy(np.ascontiguousarray(((scaled - mean) / std).transpose(2, 0, 1)))
