"""Published parquet tables, read as streams: finding a split's files, counting rows, iterating over some columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmret.errors import ConfigError

_PART = re.compile(r"-(\d{5})-of-(\d{5})$")
_BATCH_ROWS = 512
_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class ParquetSplit:
    """One split of one table: its files in order. Only footers are read until somebody iterates."""

    name: str
    """"EVQA_data/test", for messages."""
    files: tuple[Path, ...]
    file_rows: tuple[int, ...]
    """Rows of each file, from its footer."""
    columns: tuple[str, ...]
    missing_parts: tuple[int, ...] = ()
    """Numbers that the file names promise ("-00002-of-00010") and that are not there: a download that was cut off."""

    def __len__(self) -> int:
        """Rows of all files."""
        return sum(self.file_rows)

    @classmethod
    def find(cls, root: Path, table: str, split: str) -> ParquetSplit | None:
        """The split's files below `root`, as the hub lays them out; None if there are none.

        Looked for, each also one folder `data/` deeper: `<table>/<split>-*.parquet`, `<table>/<split>.parquet`, and the
        hub's converted form `<table>/<split>/*.parquet`.

        Raises:
            ConfigError: a file is no parquet table (a git-lfs pointer, for one).
        """
        for folder in (root / table, root / "data" / table, root / table / "data"):
            for pattern in (f"{split}-*.parquet", f"{split}.parquet", f"{split}/*.parquet"):
                files = tuple(sorted(folder.glob(pattern)))
                if files:
                    return cls._open(f"{table}/{split}", files)
        return None

    @classmethod
    def _open(cls, name: str, files: tuple[Path, ...]) -> ParquetSplit:
        footers = [footer(file) for file in files]
        parts = [match for file in files if (match := _PART.search(file.stem))]
        promised = max((int(part[2]) for part in parts), default=0)
        missing = tuple(sorted(set(range(promised)) - {int(part[1]) for part in parts}))
        return cls(
            name, files, tuple(f.num_rows for f in footers), tuple(footers[0].schema.to_arrow_schema().names), missing
        )

    def rows(self, columns: Sequence[str], file: int | None = None) -> Iterator[dict[str, Any]]:
        """Rows of all files, or of one, as dictionaries of those columns that exist; some hundred in memory at once."""
        present = [name for name in columns if name in self.columns]
        for path in self.files if file is None else self.files[file : file + 1]:
            with pq.ParquetFile(path) as table:
                for batch in table.iter_batches(_BATCH_ROWS, columns=present):
                    yield from batch.to_pylist()

    def column(self, name: str) -> pa.ChunkedArray:
        """One whole column: for ids only."""
        return pa.chunked_array([chunk for file in self.files for chunk in _column(file, name).chunks], pa.string())


def _column(file: Path, name: str) -> pa.ChunkedArray:
    return pq.read_table(file, columns=[name]).column(name).cast(pa.string())


def footer(file: Path) -> pq.FileMetaData:
    """What a file says of itself.

    Raises:
        ConfigError: it is no parquet table.
    """
    try:
        return pq.read_metadata(file)
    except (pa.ArrowException, OSError) as error:
        with file.open("rb") as raw:
            pointer = raw.read(len(_POINTER)) == _POINTER
        advice = (
            "a git-lfs pointer; fetch the content with `git lfs pull`" if pointer else f"{error}; download it again"
        )
        raise ConfigError(f"{file}: not a parquet table ({advice})") from error
