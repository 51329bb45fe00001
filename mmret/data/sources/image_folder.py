"""Pictures that rows name by path: finding them, and their bytes as they are or scaled down."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from PIL import Image

from mmret.errors import SampleError
from mmret.types import EncodedImage

_MAGIC = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png", b"GIF8": "gif", b"RIFF": "webp", b"BM": "bmp", b"II*\0": "tif"}
_JPEG_QUALITY = 92


class ImageFolder:
    """Several places where a collection's pictures may lie; the place of the last hit is tried first."""

    def __init__(self, folders: Sequence[Path], prefixes: Sequence[str] = ("",)):
        """`prefixes` are subfolders that the rows' paths may leave out."""
        self.places = [folder / prefix for folder in folders if folder.is_dir() for prefix in prefixes]
        self.tried = [str(folder) for folder in folders]

    def find(self, path: str) -> Path | None:
        """Where a picture lies; None: nowhere.

        Raises:
            SampleError: the path climbs out of the folder.
        """
        parts = [part for part in PurePosixPath(path.strip()).parts if part != "/"]
        if ".." in parts or not parts:
            raise SampleError(f"image path {path!r} is none inside an image folder")
        for place in self.places:
            file = place.joinpath(*parts)
            if file.is_file():
                if place is not self.places[0]:
                    # A new list: other threads may be going through the old one.
                    self.places = [place, *(other for other in self.places if other is not place)]
                return file
        return None


def read_image(file: Path, max_side: int | None = None) -> tuple[str, bytes]:
    """Suffix and bytes of a picture, copied as they are unless a side is longer than `max_side` pixels.

    Then the longer side becomes `max_side` and the picture is encoded anew, as JPEG.

    Raises:
        SampleError: the file is empty or, where it has to be looked into, no image.
    """
    data = file.read_bytes()
    if not data:
        raise SampleError(f"{file}: the image is empty (0 bytes)")
    if max_side is not None and max(_size(data, file)) > max_side:
        image = EncodedImage(data, str(file)).decode()
        image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=_JPEG_QUALITY)
        return "jpg", buffer.getvalue()
    # Names lie (WIT has PNGs called .jpg); the first bytes do not.
    suffix = next((suffix for magic, suffix in _MAGIC.items() if data.startswith(magic)), None)
    return suffix or file.suffix.lstrip(".").lower() or "img", data


def _size(data: bytes, file: Path) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.size
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise SampleError(f"{file}: {len(data)} bytes do not decode as an image ({error})") from error
