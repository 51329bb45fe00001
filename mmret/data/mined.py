"""Negatives that were found for a source's samples and lie beside its shards: `mmret mine` writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mmret.data.table import Table, write_table
from mmret.errors import ConfigError, SampleError

if TYPE_CHECKING:
    from mmret.data.decode import Parsed

_COLUMN = "negatives"


class MinedNegatives:
    """Ids of the documents table for each sample, by its shard:key. Pickles as its path."""

    def __init__(self, path: str | Path) -> None:
        """Open a file of `write_mined`.

        Raises:
            ConfigError: no such file, or not such a table.
        """
        self.table = Table.open(path)
        if _COLUMN not in self.table.columns:
            raise ConfigError(
                f"{self.table.path}: no table of mined negatives (no column {_COLUMN}); mmret mine writes one"
            )

    def add_to(self, sample: Parsed) -> Parsed:
        """The sample with its mined negatives behind its own, each document once; a teacher's scores know none of them.

        Raises:
            SampleError: nothing was mined for a sample of this name.
        """
        row = self.table.find(sample_place(sample.name))
        if row is None:
            raise SampleError(
                f"{sample.name}: {self.table.path} has no such sample; it was mined for other shards, or the sample "
                "was broken then: mine again (mmret mine)"
            )
        own = {reference for reference in sample.negatives if isinstance(reference, str)}
        mined = [id for id in self.table.row(row, (_COLUMN,))[_COLUMN] or () if id not in own]
        meta = sample.meta
        if isinstance(meta.get("scores"), list):
            meta = {**meta, "scores": [*meta["scores"], *[None] * len(mined)]}
        return replace(sample, negatives=[*sample.negatives, *mined], meta=meta)


def write_mined(rows: Iterable[tuple[str, Sequence[str], Sequence[float]]], path: str | Path) -> None:
    """Write (shard:key, ids of its negatives, a model's scores of them) of every sample of a source.

    Raises:
        SampleError: a sample's name occurs twice.
    """
    write_table(
        ({"id": sample_place(name), _COLUMN: list(ids), "scores": list(scores)} for name, ids, scores in rows), path
    )


def sample_place(name: str) -> str:
    """shard:key with the shard's file name alone: a curated manifest names the same shard from another folder."""
    shard, _, key = name.rpartition(":")
    return f"{shard.rpartition('/')[2]}:{key}"
