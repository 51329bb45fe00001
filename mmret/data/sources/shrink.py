"""Pictures scaled down to what training needs: small ones are not touched, the others keep their format."""

from __future__ import annotations

import io

from PIL import Image

from mmret.errors import SampleError
from mmret.types import EncodedImage

JPEG_QUALITY = 92
"""Of JPEG and WebP; Pillow's scale, 0 to 95."""
_KEPT = {"JPEG": "JPEG", "MPO": "JPEG", "PNG": "PNG", "WEBP": "WEBP"}
"""Pillow's name of a format -> the one to write; phones' MPO is JPEG. What is none of these becomes PNG."""
_MODES = {"JPEG": ("L", "RGB"), "PNG": ("L", "LA", "RGB", "RGBA"), "WEBP": ("RGB", "RGBA")}
_MOST_EXIF = 65_000
"""JPEG has no room for more."""


def image_size(data: bytes, name: str) -> tuple[int, int]:
    """Width and height, from the header.

    Raises:
        SampleError: the bytes are no image.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SampleError(f"{name}: {len(data)} bytes do not decode as an image ({EncodedImage.why(error)})") from error


def shrink(data: bytes, max_px: int, name: str) -> bytes:
    """The picture with a shorter side of at most `max_px` pixels; the same bytes if it has that.

    Colour profile and EXIF stay, so that a reader turns the picture as it would have turned the original. Of an
    animation the first frame stays, which is the one that training reads.

    Raises:
        SampleError: the bytes are no image.
    """
    width, height = image_size(data, name)
    shorter = min(width, height)
    if shorter <= max_px:
        return data
    size = round(width * max_px / shorter), round(height * max_px / shorter)
    with Image.open(io.BytesIO(data)) as opened:
        kind = _KEPT.get(opened.format or "", "PNG")
        about = {name: opened.info[name] for name in ("exif", "icc_profile") if opened.info.get(name)}
        plain = opened.mode in _MODES[kind] and "transparency" not in opened.info
    if len(about.get("exif", b"")) > _MOST_EXIF:
        del about["exif"]
    if plain:
        image = Image.open(io.BytesIO(data))
    else:
        # Palettes, CMYK, 16 bits: as training sees them. A profile of the old colours would be wrong.
        image = EncodedImage(data, name).decode()
        about.pop("icc_profile", None)
    try:
        small = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    except (OSError, ValueError, SyntaxError) as error:
        raise SampleError(f"{name}: {len(data)} bytes do not decode as an image ({EncodedImage.why(error)})") from error
    buffer = io.BytesIO()
    small.save(buffer, kind, **({} if kind == "PNG" else {"quality": JPEG_QUALITY}), **about)
    return buffer.getvalue()
