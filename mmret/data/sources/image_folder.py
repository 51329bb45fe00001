"""Pictures that rows name by path: finding them, and their bytes as they are or scaled down."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from PIL import Image

from mmret.data.sources.shrink import JPEG_QUALITY, image_size, shrink
from mmret.errors import ConfigError, SampleError
from mmret.types import EncodedImage

FIRST_LOOK = 50
"""Pictures that are looked for before an hour of work."""
_MAGIC = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png", b"GIF8": "gif", b"RIFF": "webp", b"BM": "bmp", b"II*\0": "tif"}


class ImageFolder:
    """Several places where a collection's pictures may lie; the place of the last hit is tried first."""

    def __init__(self, folders: Sequence[Path], prefixes: Sequence[str] = ("",)):
        """`prefixes` are subfolders that the rows' paths may leave out."""
        self.places = [folder / prefix for folder in folders if folder.is_dir() for prefix in prefixes]
        self.tried = [str(folder) for folder in folders]
        self.below = [prefix for prefix in prefixes if prefix]

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
            # os.path's says no to a name that is too long for the disk, where pathlib's raises.
            if os.path.isfile(file):
                if place is not self.places[0]:
                    # A new list: other threads may be going through the old one.
                    self.places = [place, *(other for other in self.places if other is not place)]
                return file
        return None

    def first_sizes(self, paths: Iterable[str], where: str) -> list[int | None]:
        """Bytes of each of the first pictures, None where it is missing: another folder of pictures is another input.

        Raises:
            ConfigError: not one of them is there.
        """
        first = list(islice(paths, FIRST_LOOK))
        files = [self.find(path) for path in first]
        if first and not any(files):
            below = f" and {', '.join(self.below)} below it" if self.below else ""
            raise ConfigError(
                f"{where}: not one of the first {len(first)} pictures is there; looked for {first[0]!r} in "
                f"{', '.join(self.tried)}{below}"
            )
        return [None if file is None else file.stat().st_size for file in files]


class Scaling(Protocol):
    """The options of a build that scale pictures down."""

    max_side: int | None
    max_px: int | None


def check_scaling(source: str, options: Scaling) -> None:
    """Whether the options that scale pictures down make sense.

    Raises:
        ConfigError: they do not.
    """
    for name in ("max_side", "max_px"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"{source}: {name} must be at least 1, got {value}")
    if options.max_side is not None and options.max_px is not None:
        raise ConfigError(f"{source}: max_side (the longer side) and max_px (the shorter side) exclude each other")


def deciding(options: Scaling, *names: str) -> dict[str, Any]:
    """The options of these names, max_side, and max_px where it is set: what a build is told apart by."""
    found = {name: getattr(options, name) for name in (*names, "max_side")}
    # Unset it stays away: builds from before there was max_px are still the same.
    return found if options.max_px is None else found | {"max_px": options.max_px}


def read_image(file: Path, max_side: int | None = None, max_px: int | None = None) -> tuple[str, bytes]:
    """Suffix and bytes of a picture, copied as they are unless it is too large.

    Where its longer side has more than `max_side` pixels, that becomes `max_side` and the picture a JPEG; where its
    shorter side has more than `max_px`, that becomes `max_px` and the format stays.

    Raises:
        SampleError: the file is empty or no image.
    """
    data = file.read_bytes()
    if not data:
        raise SampleError(f"{file}: the image is empty (0 bytes)")
    return scaled(data, str(file), max_side, max_px, file.suffix)


def scaled(
    data: bytes, name: str, max_side: int | None = None, max_px: int | None = None, named: str = ""
) -> tuple[str, bytes]:
    """The same of a picture's bytes; `named`: the suffix where the bytes do not tell it."""
    longer = max(image_size(data, name))
    if max_side is not None and longer > max_side:
        image = EncodedImage(data, name).decode()
        image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=JPEG_QUALITY)
        return "jpg", buffer.getvalue()
    if max_px is not None:
        data = shrink(data, max_px, name)
    return suffix_of(data, named), data


def suffix_of(data: bytes, named: str = "") -> str:
    """What a picture's member is to end in. Names lie (WIT has PNGs called .jpg), the first bytes do not."""
    suffix = next((suffix for magic, suffix in _MAGIC.items() if data.startswith(magic)), None)
    return suffix or named.lstrip(".").lower() or "img"
