"""The picture that a table's value stands for: a path, an address, bytes, or their base64."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmret.data.sources.fetch import FetchError, fetch
from mmret.data.sources.image_folder import ImageFolder, suffix_of
from mmret.data.sources.shrink import image_size, shrink
from mmret.errors import SampleError

_WEB = re.compile(r"https?://", re.IGNORECASE)
_DATA = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/_=\s-]{64,}")
"""Hardly a path: it has no dot, and is long."""
_LONGEST_PATH = 1024


@dataclass(frozen=True)
class Picture:
    """A picture as it will lie in a shard."""

    data: bytes
    suffix: str


@dataclass(frozen=True)
class Lost:
    """A picture that is not to be had."""

    cause: str
    """What such are counted by."""
    text: str
    """Which, and what is wrong."""
    web: bool = False
    """It was to come from the web, where some are always missing."""


class PictureReader:
    """Reads values of all kinds; threads may share one."""

    def __init__(self, folder: Path, max_px: int | None, timeout_s: float, retries: int):
        """`folder`: what paths are relative to."""
        self.folder, self.max_px = ImageFolder([folder]), max_px
        self.timeout_s, self.retries = timeout_s, retries

    def __call__(self, value: Any) -> Picture | Lost:
        """The picture of a value that is not empty."""
        shown = repr(value)[:80]
        if isinstance(value, dict) and value.keys() & {"bytes", "path"}:
            # A picture of Hugging Face datasets.
            given = value.get("bytes")
            value = value.get("path") if given is None else given
        try:
            if isinstance(value, bytes):
                return self._checked(value, shown)
            if not isinstance(value, str):
                return Lost("no picture", f"{shown}: want a path, an address, bytes, base64 or {{bytes, path}}")
            if _WEB.match(value.strip()):
                return self._fetched(value.strip())
            if value.startswith(("b'", 'b"')):
                return Lost("bytes as Python shows them", f"{shown}: in a text file, bytes are written as base64")
            if head := _DATA.match(value):
                return self._checked(_decoded(value[head.end() :], shown), shown)
            file = self._find(value)
            if file is not None:
                return self._checked(file.read_bytes(), str(file))
            if _BASE64.fullmatch(value):
                return self._checked(_decoded(value, shown), shown)
            return Lost("picture missing", f"no picture {shown} in {', '.join(self.folder.tried)}")
        except (SampleError, OSError) as error:
            return Lost("picture broken", str(error))

    def size(self, value: Any) -> int | None:
        """Bytes of the file that a path names; -1: it is not there; None: the value is no path."""
        if isinstance(value, dict) and value.get("bytes") is None:
            value = value.get("path")
        if not isinstance(value, str) or _WEB.match(value) or _DATA.match(value):
            return None
        try:
            file = self._find(value)
        except SampleError:
            return -1
        return file.stat().st_size if file is not None else None if _BASE64.fullmatch(value) else -1

    def _find(self, path: str) -> Path | None:
        # Base64 of a picture is longer than any path; names without a dot may be either.
        return None if len(path) > _LONGEST_PATH else self.folder.find(path)

    def _fetched(self, url: str) -> Picture | Lost:
        try:
            return self._checked(fetch(url, self.timeout_s, self.retries), url)
        except FetchError as error:
            return Lost(f"url: {error.cause}", str(error), web=True)
        except SampleError as error:
            return Lost("url: no image", str(error), web=True)

    def _checked(self, data: bytes, name: str) -> Picture:
        image_size(data, name)
        if self.max_px is not None:
            data = shrink(data, self.max_px, name)
        return Picture(data, suffix_of(data))


def _decoded(text: str, shown: str) -> bytes:
    try:
        plain = "".join(text.split()).replace("-", "+").replace("_", "/")
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise SampleError(f"{shown}: no base64 ({error})") from error
