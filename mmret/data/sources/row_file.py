"""Rows of CSV, TSV, JSONL and parquet files: their columns, pieces to build in one go, and the rows of a piece."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from mmret.data.sources.parquet import footer
from mmret.data.sources.plan import Piece
from mmret.errors import ConfigError, SampleError
from mmret.recipe.problem import did_you_mean

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz", ".parquet")
_BATCH_ROWS = 256
_LOOKED_AT = 100
"""Rows of a JSONL file that are looked at for its columns: each row may have others."""

csv.field_size_limit(2**31 - 1)  # a picture's base64 is longer than what csv takes by default


@dataclass(frozen=True)
class BrokenRow:
    """A row that cannot be read."""

    text: str


class RowFiles:
    """Several files of rows, read as one."""

    def __init__(self, paths: Sequence[str], names: Sequence[str] = ()):
        """Find the files, and read their heads.

        Args:
            paths: files, or folders of them.
            names: of the columns, for CSV and TSV files without a first line that names them.
        Raises:
            ConfigError: a path is missing or of no known kind, or a file names no columns.
        """
        self.files, self.names = _find(paths), list(names)
        self.columns = {file: self._columns(file) for file in self.files}

    def require(self, columns: Sequence[str]) -> None:
        """Whether all files have these columns.

        Raises:
            ConfigError: one has not.
        """
        for file, known in self.columns.items():
            for name in columns:
                if name not in known:
                    raise ConfigError(
                        f"{file}: no column '{name}'; it has {', '.join(known)}.{did_you_mean(name, known)}"
                    )

    def pieces(self, size: int, limit: int | None = None) -> list[Piece]:
        """All rows, or the first ones, in pieces of at most `size`; reads text files from end to end."""
        found: list[Piece] = []
        first = 0
        for number, file in enumerate(self.files):
            row = 0
            for at, rows in self._starts(file, size):
                if limit is not None:
                    rows = min(rows, limit - first)
                if rows:
                    found.append(Piece(first, rows, number, row, at))
                first, row = first + rows, row + rows
                if first == limit:
                    return found
        return found

    def first(self, number: int) -> Iterator[tuple[int, str, dict[str, Any] | BrokenRow]]:
        """As `rows`, at most the first so many of the first file."""
        at, rows = next(self._starts(self.files[0], number), (0, 0))
        return self.rows(Piece(0, rows, at=at))

    def rows(self, piece: Piece) -> Iterator[tuple[int, str, dict[str, Any] | BrokenRow]]:
        """Number, place ("pairs.csv row 17", counted from 1) and values of each row of a piece, in order."""
        file = self.files[piece.file]
        read = self._parquet(file, piece) if file.suffix == ".parquet" else self._text(file, piece)
        for number, row in enumerate(read):
            yield piece.first + number, f"{file.name} row {piece.row + number + 1}", row

    def _columns(self, file: Path) -> list[str]:
        if file.suffix == ".parquet":
            return list(footer(file).schema.to_arrow_schema().names)
        if _kind(file) == ".jsonl":
            rows = (_json(line) for _, line in islice(_lines(file, 0), _LOOKED_AT))
            return list(dict.fromkeys(name for row in rows if isinstance(row, dict) for name in row))
        names = self.names or next((fields for _, fields in _records(file, 0)), [])
        twice = sorted({name for name in names if names.count(name) > 1})
        if not names or twice:
            what = f"two columns are called '{twice[0]}'" if twice else "the file is empty"
            raise ConfigError(f"{file}: {what}; want a first line that names each column, or --columns")
        return names

    def _starts(self, file: Path, size: int) -> Iterator[tuple[int, int]]:
        """(byte of the first row, rows) of each piece of a file."""
        if file.suffix == ".parquet":
            rows = footer(file).num_rows
            yield from ((0, min(size, rows - row)) for row in range(0, rows, size))
            return
        start, rows = 0, 0
        for at in self._places(file):
            if rows == size:
                yield start, rows
                rows = 0
            if rows == 0:
                start = at
            rows += 1
        if rows:
            yield start, rows

    def _places(self, file: Path) -> Iterator[int]:
        if _kind(file) == ".jsonl":
            yield from (at for at, _ in _lines(file, 0))
        else:
            yield from (at for at, _ in islice(_records(file, 0), 0 if self.names else 1, None))

    def _text(self, file: Path, piece: Piece) -> Iterator[dict[str, Any] | BrokenRow]:
        if _kind(file) == ".jsonl":
            yield from (_json(line) for _, line in islice(_lines(file, piece.at), piece.rows))
            return
        names = self.columns[file]
        for _, fields in islice(_records(file, piece.at), piece.rows):
            if len(fields) != len(names):
                yield BrokenRow(f"{len(fields)} fields, want {len(names)} ({', '.join(names)[:60]})")
            else:
                yield dict(zip(names, fields))

    def _parquet(self, file: Path, piece: Piece) -> Iterator[dict[str, Any]]:
        with pq.ParquetFile(file) as table:
            start, groups, skip = 0, [], 0
            for group in range(table.num_row_groups):
                end = start + table.metadata.row_group(group).num_rows
                if end > piece.row and start < piece.row + piece.rows:
                    skip = skip if groups else piece.row - start
                    groups.append(group)
                start = end
            left = piece.rows
            try:
                for batch in table.iter_batches(_BATCH_ROWS, row_groups=groups):
                    part = batch.slice(min(skip, len(batch)), left)
                    skip = max(0, skip - len(batch))
                    yield from part.to_pylist()
                    left -= len(part)
                    if not left:
                        return
            except (pa.ArrowException, OSError) as error:
                raise SampleError(f"{file} cannot be read ({error}); download it again") from error


def _find(paths: Sequence[str]) -> list[Path]:
    files: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise ConfigError(f"{path}: no such file or folder")
        found = sorted(path.iterdir()) if path.is_dir() else [path]
        known = [file for file in found if file.name.endswith(SUFFIXES) and file.is_file()]
        if not known:
            raise ConfigError(f"{path}: no table{' in it' if path.is_dir() else ''}; known: {', '.join(SUFFIXES)}")
        files += known
    return files


def _kind(file: Path) -> str:
    return Path(file.name.removesuffix(".gz")).suffix


def _json(line: str) -> dict[str, Any] | BrokenRow:
    try:
        row = json.loads(line)
    except ValueError as error:
        return BrokenRow(f"no JSON ({error})")
    return row if isinstance(row, dict) else BrokenRow("no JSON object")


def _lines(file: Path, at: int) -> Iterator[tuple[int, str]]:
    """(byte where it begins, text) of each line from there on that is not blank."""
    with closing(_Lines(file, at)) as lines:
        while line := lines.next():
            if line.strip():
                yield at, line
            at = lines.at


def _records(file: Path, at: int) -> Iterator[tuple[int, list[str]]]:
    """(byte where it begins, fields) of each row from there on."""
    if _kind(file) == ".tsv":
        # No field holds a tab or a newline, so quotes mean nothing, except around a whole field.
        yield from (
            (at, [_unquoted(text) for text in line.rstrip("\r\n").split("\t")]) for at, line in _lines(file, at)
        )
        return
    with closing(_Lines(file, at)) as lines:
        try:
            for fields in csv.reader(iter(lines.next, "")):
                if lines.ended:  # reading on for the end of a quote
                    raise SampleError(
                        f"{file}: the quote that opens near byte {at} is never closed, so that all behind it is one "
                        "field; close it, or write it twice, or download a file that was cut off again"
                    )
                if fields:
                    yield at, fields
                at = lines.at
        except csv.Error as error:
            raise SampleError(f"{file}: no CSV near byte {at} ({error})") from error


def _unquoted(field: str) -> str:
    inner = field[1:-1]
    quoted = len(field) > 1 and field[0] == field[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if quoted else field


class _Lines:
    """Lines of a text file, and the byte where the next one begins."""

    def __init__(self, file: Path, at: int):
        self.path, self.at, self.ended = file, at, False
        self._opened = cast(BinaryIO, gzip.GzipFile(file)) if file.suffix == ".gz" else file.open("rb")
        self._opened.seek(at)

    def close(self) -> None:
        """Close the file."""
        self._opened.close()

    def next(self) -> str:
        """The next line with its end; empty: there is none."""
        try:
            line = self._opened.readline()
            start, self.at, self.ended = self.at, self.at + len(line), not line
            return line.decode("utf-8-sig" if start == 0 else "utf-8")
        except UnicodeDecodeError as error:
            raise SampleError(f"{self.path}: no UTF-8 text near byte {self.at} ({error}); convert the file") from error
        except (OSError, EOFError, zlib.error) as error:
            raise SampleError(f"{self.path} cannot be read: {error}") from error
