"""Some samples of a collection, for eyes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmret.data.care.collection import Collection
from mmret.errors import SampleError
from mmret.types import Content

NEGATIVES = 3
"""Negatives of a sample that are shown."""


@dataclass(frozen=True)
class Looked:
    """A sample, or what is wrong with it."""

    index: int
    """Its number in the collection."""
    query: Content | None = None
    positives: tuple[Content, ...] = ()
    negatives: tuple[Content, ...] = ()
    num_negatives: int = 0
    meta: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    """shard:key"""
    fault: str = ""
    """Why there is nothing to see."""


def look(collection: Collection, num: int) -> Iterator[Looked]:
    """`num` samples, spread evenly from the first to the last, in stored order; all, if there are no more."""
    total = len(collection.manifest)
    num = min(num, total)
    for at in range(num):
        index = at * (total - 1) // max(num - 1, 1)
        try:
            yield _look(collection, index)
        except SampleError as error:
            yield Looked(index, fault=str(error))


def _look(collection: Collection, index: int) -> Looked:
    decoder = collection.decoder
    sample = decoder.parse(collection.reader.read(index))
    sides: dict[str, tuple[Content, ...]] = {}
    for side, references in (("positives", sample.positives), ("negatives", sample.negatives[:NEGATIVES])):
        # A manifest alone does not know the table: the id is all there is to show.
        sides[side] = tuple(
            Content(id=one) if collection.bare and isinstance(one, str) else decoder.document(sample, side, one)
            for one in references
        )
    return Looked(
        index,
        sample.query,
        sides["positives"],
        sides["negatives"],
        len(sample.negatives),
        sample.meta,
        sample.name,
    )
