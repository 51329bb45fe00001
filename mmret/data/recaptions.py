"""Captions that a model wrote for a source's pictures and that lie beside its shards: `mmret data recaption`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmret.data.dice import Dice
from mmret.data.sample_table import SampleTable, write_sample_table
from mmret.types import Content

if TYPE_CHECKING:
    from mmret.data.decode import Parsed


class Recaptions(SampleTable):
    """Written captions of each sample; none where it has no picture to write about."""

    column, content, command = "captions", "captions", "mmret data recaption"
    absent = "it was written for other shards: mmret data recaption"

    def draw(self, sample: Parsed, share: float, *key: object) -> Content | None:
        """With probability `share` one of the written captions; None: the sample keeps its own.

        Args:
            key: the sample's place in training decides: seed, source, epoch, index.
        """
        dice = Dice("recaption", *key)
        if dice.between(0, 1) >= share:
            return None
        written = self.of(sample.name)
        return Content(written[dice.below(len(written))]) if written else None


def picture_side(sample: Parsed) -> str | None:
    """query: a picture asks, captions answer; positives: a text asks for pictures; None: neither, nothing to write."""
    if sample.query.images:
        return "query" if sample.query.text is None else None
    return "positives" if sample.query.text is not None and sample.query.video is None else None


def write_recaptions(rows: Iterable[tuple[str, Sequence[str]]], path: str | Path) -> None:
    """Write (shard:key, captions) of every sample of a source.

    Raises:
        SampleError: a sample's name occurs twice.
    """
    write_sample_table(((name, {Recaptions.column: list(captions)}) for name, captions in rows), path)
