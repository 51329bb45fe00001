"""Contents that occur more than once, byte for byte: found by hashes, named by shard and key."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from mmret.data.care.collection import Collection
from mmret.data.scan import scan_shard
from mmret.types import Content

EXAMPLES = 3
"""Groups that are named, the largest first."""
NAMED = 5
"""Members of a group that are named."""


@dataclass(frozen=True)
class Repeats:
    """Contents of one kind that occur more than once."""

    kind: str
    """"query text", "query picture", "query, text and picture"; the same of "document" and "table"."""
    total: int
    distinct: int
    groups: int
    """Different contents that occur more than once."""
    largest: int
    """How often the most frequent occurs."""
    examples: tuple[tuple[str, ...], ...] = ()
    """Of the largest groups, some shard:key."""


class Hashes:
    """64-bit hashes of contents by kind, and where each was: shard x 2^32 + sample, or -1 - row of the table."""

    def __init__(self) -> None:
        self.values: dict[str, array[int]] = {}
        self.places: dict[str, array[int]] = {}

    def add(self, kind: str, content: Content, place: int) -> None:
        """Note a content's text, its pictures, and all of it where it has both."""
        pictures = [image.key for image in content.pictures]
        texts = [] if content.text is None else [content.text.encode()]
        noted = [(f"{kind} text", texts)] if texts else []
        noted += [(f"{kind} picture", [key]) for key in pictures]
        noted += [(f"{kind}, text and picture", [*texts, *pictures])] if texts and pictures else []
        for name, parts in noted:
            digest = blake2b(b"\0".join(parts), digest_size=8).digest()
            self.values.setdefault(name, array("Q")).append(int.from_bytes(digest, "big"))
            self.places.setdefault(name, array("q")).append(place)

    def merge(self, other: Hashes) -> None:
        """Join with a piece."""
        for kind, values in other.values.items():
            self.values.setdefault(kind, array("Q")).extend(values)
            self.places.setdefault(kind, array("q")).extend(other.places[kind])


def find_repeats(collection: Collection, hashes: Hashes) -> list[Repeats]:
    """Of each kind of content, whether or not something occurs twice."""

    @lru_cache(64)
    def keys(shard: int) -> list[str]:
        with collection.tar(shard) as path:
            scan = scan_shard(path)
        return [key for key, _ in collection.kept.select(shard, scan.samples)]

    def name(place: int) -> str:
        if place < 0:
            assert collection.documents is not None
            return f"{collection.documents.path.name}:{collection.documents.id(-1 - place)}"
        shard, number = divmod(place, 1 << 32)
        return f"{collection.manifest.shards[shard].name}:{keys(shard)[number]}"

    found = []
    for kind, values in hashes.values.items():
        places = np.array(hashes.places[kind])
        # Stable, so that a group's first is the first in stored order.
        order = np.argsort(np.array(values), kind="stable")
        _, starts, counts = np.unique(np.array(values)[order], return_index=True, return_counts=True)
        several = np.flatnonzero(counts > 1)
        largest = several[np.argsort(-counts[several], kind="stable")][:EXAMPLES]
        examples = tuple(
            tuple(name(int(place)) for place in places[order[starts[one] : starts[one] + min(counts[one], NAMED)]])
            for one in largest
        )
        most = int(counts.max(initial=0))
        found.append(Repeats(kind, len(values), len(counts), len(several), most, examples))
    return found
