"""An image as it lies in a shard."""

from __future__ import annotations

import io
from dataclasses import dataclass
from hashlib import blake2b

from PIL import Image

from mmret.errors import SampleError


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
