"""An image as it lies in a shard, and a video as a row of them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, cast

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from mmret.allocator import PICTURE, keep_freed_memory
from mmret.errors import SampleError

_JPEG = b"\xff\xd8\xff"
_SIXTEEN_BITS = ("PNG", "PPM")
"""Formats whose 16 grey bits older versions of Pillow give as 32."""


@dataclass(frozen=True)
class EncodedImage:
    """An image as it lies in a shard: encoded bytes, decoded only when somebody looks."""

    data: bytes
    """JPEG, PNG, WebP: whatever Pillow opens. While training, a large one is a memoryview of its shard."""
    name: str = "image"
    """Where it came from, for error messages."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "data": bytes(self.data)}

    @staticmethod
    def why(error: Exception) -> str:
        """Why Pillow does not read some bytes; its own words name a place in memory, another one in each run."""
        return "of no known format" if isinstance(error, UnidentifiedImageError) else str(error)

    def decode(self) -> Image.Image:
        """The picture as RGB, as it is stored: EXIF's rotation is not applied, as published implementations do not.

        Transparency is laid on white; of 16 bits a channel the upper eight stay, in grey as in colour. What lacks the
        middle but has its end, libjpeg fills with grey without a word: that passes, here as with every reader.

        Raises:
            SampleError: the bytes are no image that Pillow can open, a JPEG without its end, or of a mode whose white
                nobody knows (32 bits a channel).
        """
        keep_freed_memory(PICTURE)
        try:
            image = Image.open(io.BytesIO(self.data))
            kind = image.format
            image.load()
        except Exception as error:
            why = self.why(error)
            raise SampleError(f"{self.name}: {len(self.data)} bytes do not decode as an image ({why})") from error
        if kind in ("JPEG", "MPO") and not _ends(bytes(self.data)):  # zeros are valid data: Pillow takes what they make
            raise SampleError(f"{self.name}: {len(self.data)} bytes do not decode as an image (its end is missing)")
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, (255, 255, 255, 255))
            image = Image.alpha_composite(white, image)
        elif image.mode.startswith("I;16") or (image.mode == "I" and kind in _SIXTEEN_BITS):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # `convert` makes all above 255 white
        elif image.mode in ("I", "F"):
            raise SampleError(
                f"{self.name}: a {kind} of 32 bits a channel says nowhere which value is white; store it in 8 or 16"
            )
        return image.convert("RGB")

    def decode_jpeg(self, least: int | None = None) -> Tensor | None:
        """[3, H, W] uint8, the same values as `decode`'s in three quarters of the time; None for what torchvision does
        not read alike: no JPEG, another colour model, broken.

        Args:
            least: decode at 1/2, 1/4 or 1/8 of the size, if the shorter side keeps so many pixels; None: at its size.
        """
        if bytes(self.data[:3]) != _JPEG:
            return None
        from torchvision.io import ImageReadMode, decode_jpeg

        keep_freed_memory(PICTURE)
        try:
            header = Image.open(io.BytesIO(self.data))
            if header.format != "JPEG" or header.mode not in ("RGB", "L"):
                return None
            if least is not None and min(header.size) >= 2 * least:
                header.draft(None, (least, least))
                return torch.from_numpy(np.array(header.convert("RGB"))).permute(2, 0, 1)
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


def _ends(jpeg: bytes) -> bool:
    """Whether an end marker follows the header, in which a thumbnail may have its own."""
    at = 2
    while jpeg[at : at + 1] == b"\xff" and jpeg[at + 1 : at + 2] != b"\xda":  # segments up to the first scan
        filled = jpeg[at + 1 : at + 2] == b"\xff"
        at += 1 if filled else 2 + max(int.from_bytes(jpeg[at + 2 : at + 4], "big"), 2)
    return jpeg.find(b"\xff\xd9", at) >= 0
