"""Pictures to normalised pixels, as CLIP's published preprocessing does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from mmret.errors import SampleError
from mmret.types import Content, EncodedImage, Role

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
LONGEST = 64
"""Of a picture so many times as long as wide, or more, only the middle is scaled: of one of 1 x 65,000 pixels the whole
would take 10 GB, of which the centre is kept."""


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
    decode: str = "full"
    """full: every pixel of a JPEG; scaled: of large ones 1/2, 1/4 or 1/8 of each side, at least twice px, which takes
    60 to 75 % of the time; of a photo the mean difference is below one grey level."""


def pixels(image: EncodedImage | Image.Image, settings: PictureSettings) -> Tensor:
    """[3, px, px] float32: `resized`, normalised.

    Of a Pillow image it equals transformers' Pillow image processor for CLIP bit for bit (with fit: crop).
    """
    return _normalise(resized(image, settings), settings)


def resized(image: EncodedImage | Image.Image, settings: PictureSettings) -> Tensor:
    """[3, px, px] uint8, bicubic.

    JPEGs go through torchvision and torch, which take less than half of Pillow's time; torch's resampling rounds its
    weights to 16 bits: of a photo about one value in 400 is one grey level off. All else goes through Pillow. Neither
    turns a picture by its EXIF entry.

    Raises:
        SampleError: the bytes are no image that Pillow can open.
    """
    least = 2 * settings.px if settings.decode == "scaled" else None
    jpeg = image.decode_jpeg(least) if isinstance(image, EncodedImage) else None
    if jpeg is None:
        picture = image.decode() if isinstance(image, EncodedImage) else image
        if settings.fit == "crop":
            picture = picture.crop(_middle(*picture.size)) if _is_endless(*picture.size) else picture
        width, height = _fitted(*picture.size, settings)
        values = np.array(picture.resize((width, height), Image.Resampling.BICUBIC).convert("RGB"))
        made = torch.from_numpy(values).permute(2, 0, 1)
    else:
        if settings.fit == "crop" and _is_endless(jpeg.shape[2], jpeg.shape[1]):
            left, top, right, bottom = _middle(jpeg.shape[2], jpeg.shape[1])
            jpeg = jpeg[:, top:bottom, left:right]
        width, height = _fitted(jpeg.shape[2], jpeg.shape[1], settings)
        made = interpolate(jpeg[None], (height, width), mode="bicubic", antialias=True)[0]
    top, left = (height - settings.px) // 2, (width - settings.px) // 2
    return made[:, top : top + settings.px, left : left + settings.px]


def _is_endless(width: int, height: int) -> bool:
    return max(width, height) > LONGEST * min(width, height)


def _middle(width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the centre whose sides are as 1 to `LONGEST`, to half a pixel of the longer."""
    most = LONGEST * min(width, height)
    left, top = max(0, width - most) // 2, max(0, height - most) // 2
    return left, top, left + min(width, most), top + min(height, most)


def _fitted(width: int, height: int, settings: PictureSettings) -> tuple[int, int]:
    """Width and height to scale to, before the centre is cut out."""
    px = settings.px
    if settings.fit == "squash":
        return px, px
    # The longer side is rounded down, as the published preprocessing does.
    return (px, int(px * height / width)) if width <= height else (int(px * width / height), px)


def black(settings: PictureSettings) -> Tensor:
    """[3, px, px]: a black picture, which stands in for a missing one."""
    return _normalise(torch.zeros(3, settings.px, settings.px, dtype=torch.uint8), settings)


def refuse_videos(contents: Sequence[Content], role: Role, model: str) -> None:
    """For models that see still pictures only.

    Raises:
        SampleError: a content has a video.
    """
    for row, content in enumerate(contents):
        if content.video is not None:
            name = content.id or f"{role} {row}"
            raise SampleError(f"{name} has a video, which {model} does not read; give it frames as images")


def _normalise(values: Tensor, settings: PictureSettings) -> Tensor:
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (settings.mean, settings.std))
    scaled = torch.empty(values.shape).copy_(values)  # planes of a channel each, however the values lie
    return scaled.div_(255).sub_(mean).div_(std)
