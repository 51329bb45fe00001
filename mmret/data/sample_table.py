"""A table beside a source's shards: what a pass over them wrote about each sample, by its shard:key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from mmret.data.table import Table, write_table
from mmret.errors import ConfigError, SampleError


class SampleTable:
    """Lists of texts, one for each sample. Pickles as its path. A subclass names the column and the pass."""

    column: ClassVar[str]
    content: ClassVar[str]
    """What the lists hold, for messages."""
    command: ClassVar[str]
    """The pass that writes such a table."""
    absent: ClassVar[str]
    """Why a sample may have no row, and what to do."""

    def __init__(self, path: str | Path) -> None:
        """Open a file of `write_sample_table`.

        Raises:
            ConfigError: no such file, or no table of this pass.
        """
        self.table = Table.open(path)
        if self.column not in self.table.columns:
            raise ConfigError(
                f"{self.table.path}: no table of {self.content} (no column {self.column}); {self.command} writes one"
            )

    def of(self, name: str) -> list[str]:
        """What was written about the sample of this shard:key; empty where there was nothing to write.

        Raises:
            SampleError: the table has no such sample.
        """
        row = self.table.find(_place(name))
        if row is None:
            raise SampleError(f"{name}: {self.table.path} has no such sample; {self.absent}")
        return list(self.table.row(row, (self.column,))[self.column] or ())


def write_sample_table(rows: Iterable[tuple[str, Mapping[str, Any]]], path: str | Path) -> None:
    """Write (shard:key, columns) of every sample of a source.

    Raises:
        SampleError: a sample's name occurs twice.
    """
    write_table(({"id": _place(name), **columns} for name, columns in rows), path)


def _place(name: str) -> str:
    # The shard's file name alone: a curated manifest names the same shard from another folder.
    shard, _, key = name.rpartition(":")
    return f"{shard.rpartition('/')[2]}:{key}"
