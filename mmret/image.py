"""An image as it lies in a shard, and a video as a row of them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from hashlib import blake2b
from typing import cast

import torch
from PIL import Image
from torch import Tensor

from mmret.errors import SampleError

_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True)
class EncodedImage:
    """An image as it lies in a shard: encoded bytes, decoded only when somebody looks."""

    data: bytes
    """JPEG, PNG, WebP: whatever Pillow opens."""
    name: str = "image"
    """Where it came from, for error messages."""

    def decode(self) -> Image.Image:
        """The picture as RGB; transparency is laid on white.

        Raises:
            SampleError: the bytes are no image that Pillow can open.
        """
        try:
            image = Image.open(io.BytesIO(self.data))
            image.load()
        except Exception as error:
            raise SampleError(f"{self.name}: {len(self.data)} bytes do not decode as an image ({error})") from error
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, (255, 255, 255, 255))
            image = Image.alpha_composite(white, image)
        return image.convert("RGB")

    def decode_jpeg(self) -> Tensor | None:
        """[3, H, W] uint8, the same values as `decode`'s in three quarters of the time; None for what torchvision does
        not read alike: no JPEG, another colour model, broken."""
        if not self.data.startswith(_JPEG):
            return None
        from torchvision.io import ImageReadMode, decode_jpeg

        try:
            header = Image.open(io.BytesIO(self.data))
            if header.format != "JPEG" or header.mode not in ("RGB", "L"):
                return None
            data = torch.frombuffer(bytearray(self.data), dtype=torch.uint8)
            return cast(Tensor, decode_jpeg(data, ImageReadMode.RGB))
        except Exception:  # `decode` says what is wrong
            return None

    @property
    def key(self) -> bytes:
        """16 bytes that identify the content."""
        return blake2b(self.data, digest_size=16).digest()

    @classmethod
    def of(cls, image: Image.Image, name: str = "image") -> EncodedImage:
        """Encode a Pillow image without loss."""
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return cls(buffer.getvalue(), name)


@dataclass(frozen=True)
class EncodedVideo:
    """Frames in order, chosen when the data was built."""

    frames: tuple[EncodedImage, ...]
    fps: float | None = None
    """Frames a second; None: unknown, and each model assumes the rate of its training."""

    def __post_init__(self) -> None:
        if not self.frames:
            raise SampleError("a video without frames")
        if self.fps is not None and not self.fps > 0:
            raise SampleError(f"a video's fps must be > 0, got {self.fps}")

    def places(self, num_frames: int | None) -> list[int]:
        """Numbers of at most so many frames, spread evenly from the first to the last; None: all."""
        return self.spread(len(self.frames), num_frames)

    @staticmethod
    def spread(have: int, num: int | None) -> list[int]:
        """The same of `have` frames."""
        if num is None or num >= have:
            return list(range(have))
        if num == 1:
            return [0]
        return [i * (have - 1) // (num - 1) for i in range(num)]
