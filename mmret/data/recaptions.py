"""Captions that a model wrote for a source's pictures and that lie beside its shards: `mmret data recaption`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmret.data.dice import Dice
from mmret.data.mined import sample_place
from mmret.data.table import Table, write_table
from mmret.errors import ConfigError, SampleError
from mmret.types import Content

if TYPE_CHECKING:
    from mmret.data.decode import Parsed

_COLUMN = "captions"


class Recaptions:
    """Written captions of each sample, by its shard:key. Pickles as its path."""

    def __init__(self, path: str | Path) -> None:
        """Open a file of `write_recaptions`.

        Raises:
            ConfigError: no such file, or not such a table.
        """
        self.table = Table.open(path)
        if _COLUMN not in self.table.columns:
            raise ConfigError(
                f"{self.table.path}: no table of captions (no column {_COLUMN}); mmret data recaption writes one"
            )

    def of(self, name: str) -> list[str]:
        """What was written for the sample of this shard:key; empty where it has no picture to write about.

        Raises:
            SampleError: the table has no such sample.
        """
        row = self.table.find(sample_place(name))
        if row is None:
            raise SampleError(
                f"{name}: {self.table.path} has no such sample; it was written for other shards: mmret data recaption"
            )
        return list(self.table.row(row, (_COLUMN,))[_COLUMN] or ())

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
    write_table(({"id": sample_place(name), _COLUMN: list(captions)} for name, captions in rows), path)
