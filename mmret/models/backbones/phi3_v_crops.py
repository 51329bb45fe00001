"""Phi-3.5-V's pictures: padded to whole crops, cut, and shown once more as a whole; pixels as published."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from mmret.errors import SampleError

WHITE = 255


@dataclass(frozen=True)
class Crops:
    """Picture -> views. Pickles into data workers."""

    crop_px: int
    """Side of a crop."""
    num_crops: int
    """Most crops of a picture."""
    mean: tuple[float, ...]
    """Of the three channels, in [0, 1]."""
    std: tuple[float, ...]

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height before padding, of a picture that is at least as wide as high.

        Floating point in the published order: exact fractions give some pictures another line of pixels.
        """
        ratio = width / height
        scale = 1
        while (scale + 1) * math.ceil((scale + 1) / ratio) <= self.num_crops:
            scale += 1
        new_width = scale * self.crop_px
        return new_width, int(new_width / ratio)

    def padded(self, width: int, height: int) -> tuple[int, int]:
        """Height and width after padding, multiples of `crop_px`.

        Raises:
            SampleError: so thin that nothing would be left of its shorter side.
        """
        long, short = self.resized(max(width, height), min(width, height))
        if short < 1:
            raise SampleError(
                f"a picture of {width} x {height} pixels: one side over {long} times the other; "
                f"at most {self.num_crops} crops of {self.crop_px} pixels cannot show it"
            )
        short = math.ceil(short / self.crop_px) * self.crop_px
        return (long, short) if width < height else (short, long)

    def __call__(self, image: Image.Image) -> tuple[Tensor, tuple[int, int]]:
        """An RGB picture -> views [1 + crops, 3, px, px], the whole first, crops line by line; padded (height, width).

        Raises:
            SampleError: too thin.
        """
        size = self.padded(*image.size)
        upright = image.width < image.height
        if upright:
            # Mirrored along the diagonal, not turned: padding then falls to the left and right.
            image = image.transpose(Image.Transpose.TRANSPOSE)
        image = image.resize(self.resized(*image.size), Image.Resampling.BILINEAR)
        canvas = Image.new("RGB", (max(size), min(size)) if upright else (size[1], size[0]), (WHITE,) * 3)
        canvas.paste(image, (0, (canvas.height - image.height) // 2))
        if upright:
            canvas = canvas.transpose(Image.Transpose.TRANSPOSE)
        pixels = torch.from_numpy(np.asarray(canvas).copy()).permute(2, 0, 1).float().div(255)
        pixels = pixels.sub(torch.tensor(self.mean).view(3, 1, 1)).div(torch.tensor(self.std).view(3, 1, 1))
        px = self.crop_px
        # Resampled after normalisation, with overshoot and without antialiasing, unlike the crops.
        whole = interpolate(pixels.unsqueeze(0), size=(px, px), mode="bicubic", align_corners=False)
        rows, columns = size[0] // px, size[1] // px
        crops = pixels.view(3, rows, px, columns, px).permute(1, 3, 0, 2, 4).reshape(-1, 3, px, px)
        return torch.cat([whole, crops]), size

    def tokens(self, height: int, width: int, patch_px: int) -> int:
        """Tokens of a picture of that padded size: 2 x 2 patches each, one more per line and one between the grids."""
        rows, columns, side = height // self.crop_px, width // self.crop_px, self.crop_px // patch_px // 2
        return (rows * columns + 1) * side**2 + 1 + (rows + 1) * side
