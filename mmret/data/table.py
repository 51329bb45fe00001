"""Documents and images by id: one memory-mapped Arrow file, looked up without a dictionary of all ids."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmret.errors import ConfigError, SampleError

_FIXED = {"id": pa.string(), "text": pa.string(), "image": pa.binary()}
_INDEX = ("hash", "row")
_BATCH_ROWS = 65_536
_BATCH_BYTES = 64_000_000


def write_table(rows: Iterable[Mapping[str, Any]], path: str | Path, compress: bool = False) -> None:
    """Write rows {"id": str, "text": str?, "image": bytes?, free columns} in the given order.

    The free column "frames" (a list of bytes) makes a document a video.

    Memory does not grow with the images. Beside the rows stand two columns for lookups: `hash`, sorted, and `row`, the
    number of the row whose id has that hash.

    Args:
        compress: zstd, for small tables that travel; such a table is inflated into memory, not mapped.
    Raises:
        SampleError: an id is missing, empty or occurs twice; a column appears in later rows only.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    plain, part = path.with_name(path.name + ".plain"), path.with_name(path.name + ".part")
    try:
        hashes = _write_plain(rows, plain, path)
        order = np.argsort(hashes, kind="stable")
        options = pa.ipc.IpcWriteOptions(compression="zstd" if compress else None)
        with pa.memory_map(str(plain)) as source:
            reader = pa.ipc.open_file(source)
            _refuse_duplicates(hashes, order, reader, path)
            schema = reader.schema.append(pa.field("hash", pa.uint64())).append(pa.field("row", pa.int64()))
            with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, schema, options=options) as writer:
                start = 0
                for number in range(reader.num_record_batches):
                    batch = reader.get_batch(number)
                    rows_here = order[start : start + len(batch)]
                    columns = [*batch.columns, pa.array(hashes[rows_here]), pa.array(rows_here.astype(np.int64))]
                    writer.write_batch(pa.record_batch(columns, schema=schema))
                    start += len(batch)
        os.replace(part, path)
    finally:
        plain.unlink(missing_ok=True)
        part.unlink(missing_ok=True)


class Table:
    """A file of `write_table`, read by id or by row. Pickles as its path."""

    def __init__(self, path: str | Path):
        """Open (the same as `Table.open`).

        Raises:
            ConfigError: no such file, or not a table that `write_table` wrote.
        """
        self.path = Path(path)
        if not self.path.is_file():
            raise ConfigError(f"{self.path}: no such table; mmret.data.write_table writes one")
        try:
            table = pa.ipc.open_file(pa.memory_map(str(self.path))).read_all()
            missing = [name for name in ("id", *_INDEX) if name not in table.column_names]
            if missing:
                raise ConfigError(
                    f"{self.path}: the table has no column {', '.join(missing)}; write it with write_table"
                )
        except pa.ArrowException as error:
            raise ConfigError(f"{self.path}: not an Arrow table ({error}); write it with write_table") from error
        self._chunks: dict[str, list[pa.Array]] = {
            name: table.column(name).chunks for name in table.column_names if name not in _INDEX
        }
        self._starts = [0, *accumulate(len(chunk) for chunk in self._chunks["id"])]
        # Sorted over all batches, but not joined: joining would copy them out of the mapped file.
        self._hashes = [chunk.to_numpy() for chunk in table.column("hash").chunks]
        self._rows = [chunk.to_numpy() for chunk in table.column("row").chunks]
        self._first_hashes = np.array([hashes[0] for hashes in self._hashes], np.uint64)
        self.columns: tuple[str, ...] = tuple(self._chunks)

    @classmethod
    def open(cls, path: str | Path) -> Table:
        """Open a file that `write_table` wrote."""
        return cls(path)

    def __reduce__(self) -> tuple[type[Table], tuple[str]]:
        return type(self), (str(self.path),)

    def __len__(self) -> int:
        return self._starts[-1]

    def __contains__(self, id: object) -> bool:
        return isinstance(id, str) and self.find(id) is not None

    def find(self, id: str) -> int | None:
        """Row number of an id."""
        wanted = np.uint64(_hash(id))
        # Equal hashes may straddle two batches: begin in the last one that starts below the wanted hash.
        batch = max(int(self._first_hashes.searchsorted(wanted)) - 1, 0)
        for hashes, rows in zip(self._hashes[batch:], self._rows[batch:]):
            at = int(hashes.searchsorted(wanted))
            while at < len(hashes) and hashes[at] == wanted:
                row = int(rows[at])
                if self.id(row) == id:
                    return row
                at += 1
            if at < len(hashes):
                return None
        return None

    @property
    def has_pictures(self) -> bool:
        """Whether any row has an image, or frames."""
        columns = (self._chunks.get(name, []) for name in ("image", "frames"))
        return any(chunk.null_count < len(chunk) for chunks in columns for chunk in chunks)

    def id(self, row: int) -> str:
        """Id of a row."""
        return self._value("id", row)

    def row(self, row: int, columns: Sequence[str] | None = None) -> dict[str, Any]:
        """The values of a row; `columns` to take less than all."""
        return {name: self._value(name, row) for name in columns or self.columns}

    def get(self, id: str, columns: Sequence[str] | None = None) -> dict[str, Any]:
        """The row of an id.

        Raises:
            SampleError: no row has this id.
        """
        row = self.find(id)
        if row is None:
            raise SampleError(f"{self.path.name} has no id {id!r} (of {len(self):,} rows)")
        return self.row(row, columns)

    def ids(self) -> list[str]:
        """All ids, in stored order."""
        return [id for chunk in self._chunks["id"] for id in chunk.to_pylist()]

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """All rows, in stored order."""
        for row in range(len(self)):
            yield self.row(row, columns)

    def _value(self, name: str, row: int) -> Any:
        chunks = self._chunks[name]
        if len(chunks) == 1:
            return chunks[0][row].as_py()
        chunk = bisect_right(self._starts, row) - 1
        return chunks[chunk][row - self._starts[chunk]].as_py()


def _hash(id: str) -> int:
    return int.from_bytes(blake2b(id.encode(), digest_size=8).digest(), "big")


def _write_plain(rows: Iterable[Mapping[str, Any]], plain: Path, path: Path) -> np.ndarray:
    """Write the rows without the index columns; gives their hashes [rows] uint64."""
    hashes: list[int] = []
    schema = writer = None
    with pa.OSFile(str(plain), "wb") as sink:
        for chunk in _chunked(rows):
            for row in chunk:
                id = row.get("id")
                if not isinstance(id, str) or not id:
                    raise SampleError(f"{path.name}: row {len(hashes)} has id {id!r}; want a non-empty string")
                hashes.append(_hash(id))
            if schema is None or writer is None:
                schema = _schema(chunk, path)
                writer = pa.ipc.new_file(sink, schema)
            writer.write_batch(_batch(chunk, schema, path))
        if writer is None:
            raise SampleError(f"{path.name}: no rows to write")
        writer.close()
    return np.array(hashes, np.uint64)


def _chunked(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Rows in pieces of at most `_BATCH_ROWS`, cut earlier where their bytes pass `_BATCH_BYTES`."""
    chunk: list[Mapping[str, Any]] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += sum(_size(value) for value in row.values())
        if len(chunk) >= _BATCH_ROWS or size >= _BATCH_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _size(value: Any) -> int:
    if isinstance(value, list):
        return sum(map(_size, value))
    return len(value) if isinstance(value, (str, bytes)) else 0


def _schema(chunk: list[Mapping[str, Any]], path: Path) -> pa.Schema:
    names = dict.fromkeys(name for row in chunk for name in row if name not in _FIXED)
    reserved = [name for name in _INDEX if name in names]
    if reserved:
        raise SampleError(f"{path.name}: the column name {reserved[0]!r} is taken by the lookup; choose another")
    free = {}
    for name in names:
        kind = pa.array([row.get(name) for row in chunk]).type
        free[name] = pa.string() if pa.types.is_null(kind) else kind
    return pa.schema(_FIXED | free)


def _batch(chunk: list[Mapping[str, Any]], schema: pa.Schema, path: Path) -> pa.RecordBatch:
    for row in chunk:
        unknown = [name for name in row if name not in schema.names]
        if unknown:
            raise SampleError(
                f"{path.name}: row {row['id']!r} brings the column {unknown[0]!r}, which the first rows do not have; "
                "give each column in one of the first rows at least (None is fine)"
            )
    columns = []
    for field in schema:
        try:
            columns.append(pa.array([row.get(field.name) for row in chunk], field.type))
        except (pa.ArrowException, TypeError) as error:
            raise SampleError(
                f"{path.name}: column {field.name!r} is {field.type}, rows {chunk[0]['id']!r} to {chunk[-1]['id']!r} "
                f"hold something else ({error})"
            ) from error
    return pa.record_batch(columns, schema=schema)


def _refuse_duplicates(hashes: np.ndarray, order: np.ndarray, reader: pa.RecordBatchFileReader, path: Path) -> None:
    twins = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
    if len(twins):
        ids = reader.read_all().column("id")
        for at in twins:
            first, second = (ids[int(order[at + i])].as_py() for i in (0, 1))
            # Equal hashes of different ids are no fault: `find` compares the ids.
            if first == second:
                raise SampleError(f"{path.name}: id {first!r} occurs twice; each row has its own")
