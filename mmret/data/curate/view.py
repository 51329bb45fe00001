"""A sample as filters see it: what asks, and what answers."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from mmret.data.care.collection import Collection
from mmret.data.reader import ShardReader
from mmret.errors import ConfigError
from mmret.types import Content, EncodedImage

SIDES = ("both", "query", "positives")
"""What `of` of a filter may say."""


@dataclass(frozen=True)
class View:
    """One sample, its documents resolved; negatives are not looked at."""

    name: str
    """shard:key"""
    query: Content
    positives: tuple[Content, ...]

    def contents(self, of: str) -> tuple[Content, ...]:
        """The contents of a side."""
        return {"both": (self.query, *self.positives), "query": (self.query,), "positives": self.positives}[of]

    def texts(self, of: str) -> list[str]:
        """The texts of a side, instructions aside."""
        return [content.text for content in self.contents(of) if content.text is not None]

    def pictures(self, of: str) -> list[EncodedImage]:
        """The pictures of a side, frames of videos too."""
        return [picture for content in self.contents(of) for picture in content.pictures]


def view_sample(collection: Collection, index: int, reader: ShardReader | None = None) -> View:
    """Sample `index` of a collection; of the spec's instructions a query without one gets the first.

    Args:
        reader: for many samples; the collection's own fetches no shard that lies elsewhere for a few of them.

    Raises:
        SampleError: it is broken.
    """
    decoder = collection.decoder
    sample = decoder.parse((reader or collection.reader).read(index))
    # A manifest alone does not know the table: the id is all there is.
    positives = tuple(
        Content(id=one) if collection.bare and isinstance(one, str) else decoder.document(sample, "positives", one)
        for one in sample.positives
    )
    query = sample.query
    if query.instruction is None and collection.spec.instructions:
        query = replace(query, instruction=collection.spec.instructions[0])
    return View(sample.name, query, positives)


def check_side(of: str) -> None:
    """Whether `of` is one of `SIDES`.

    Raises:
        ConfigError: it is none.
    """
    if of not in SIDES:
        raise ConfigError(f"of: '{of}' is none; known: {', '.join(SIDES)}")
