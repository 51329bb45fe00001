"""What a shard says: one side of a pair, a row, and the numbers of its documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from msgspec import Struct

from mmret.image import EncodedImage, EncodedVideo


class Content(Struct, frozen=True):
    """One side of a pair: what is asked, or what is searched. At least one of text, images, video."""

    text: str | None = None
    images: tuple[EncodedImage, ...] = ()
    instruction: str | None = None
    id: str | None = None
    """Name of a document within its collection; equal ids are the same document."""
    video: EncodedVideo | None = None

    @property
    def pictures(self) -> tuple[EncodedImage, ...]:
        """All there is to see: the images, then the video's frames."""
        return self.images if self.video is None else (*self.images, *self.video.frames)


@dataclass(frozen=True)
class Example:
    """One training or evaluation row."""

    key: str
    """shard:key, for messages."""
    source: str
    query: Content
    positives: tuple[Content, ...]
    negatives: tuple[Content, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the row says: answers, topic, label."""


NO_DOCUMENT = -2
"""Number of an empty place; equal to no document's."""
NO_POSITIVE = -1
"""Fills up lists of known positives; no document's number, and not that of an empty place."""


def document_number(source: str, id: str) -> int:
    """A document's id as an int64 that is the same in every process (63 bits of a hash of collection and id)."""
    return int.from_bytes(blake2b(f"{source}\0{id}".encode(), digest_size=8).digest(), "big") >> 1


def document_numbers(source: str) -> Callable[[str], int]:
    """`document_number` of one collection's ids, with the collection's name hashed once."""
    named = blake2b(f"{source}\0".encode(), digest_size=8)

    def number(id: str) -> int:
        digest = named.copy()
        digest.update(id.encode())
        return int.from_bytes(digest.digest(), "big") >> 1

    return number
