"""Embeddings on disk: Arrow files of fixed row counts, each complete or absent, read as one corpus without copying."""

# R rows of a part, T tokens of a row, D dim

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from mmret.errors import CheckpointError, ConfigError, SampleError
from mmret.types import Embeddings

SETTINGS, COMPLETE = "encoding.json", "complete.json"
BLOCK = 1024
"""Rows read at once."""


@dataclass(frozen=True)
class Encoding:
    """What a folder of embeddings is of; two that differ in anything do not share a folder."""

    model: str
    """Identity of the weights."""
    data: str
    side: str
    """query | document"""
    rows: int
    rows_per_part: int
    batch_size: int
    """Part of the numbers: what is padded together differs in the last bits."""
    dtype: str
    """float32 | float16"""

    @property
    def parts(self) -> int:
        """Number of files."""
        return -(-self.rows // self.rows_per_part)

    def part_rows(self, part: int) -> range:
        """Rows of a part, in stored order."""
        return range(part * self.rows_per_part, min((part + 1) * self.rows_per_part, self.rows))

    def file(self, folder: Path, part: int) -> Path:
        """Where it lies."""
        return folder / f"part-{part:05d}-of-{self.parts:05d}.arrow"

    def missing(self, folder: Path) -> list[int]:
        """Parts that are not there."""
        return [part for part in range(self.parts) if not self.file(folder, part).is_file()]


def claim(folder: Path, encoding: Encoding) -> None:
    """Write what the folder is of, or see that it is the same.

    Raises:
        ConfigError: it holds something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / SETTINGS
    if not file.is_file():
        if any(folder.glob("*.arrow")):
            raise ConfigError(f"{folder} holds Arrow files, but no {SETTINGS}; choose another: --out FOLDER")
        _replace(file, json.dumps(asdict(encoding), indent=1).encode())
    there = read_settings(folder)
    if there != encoding:
        old, new = asdict(there), asdict(encoding)
        changes = "; ".join(f"{key}: {old[key]!r} there, {new[key]!r} now" for key in old if old[key] != new[key])
        raise ConfigError(f"{folder} holds other embeddings ({changes}); choose another: --out FOLDER")


def read_settings(folder: Path) -> Encoding:
    """What a folder is of.

    Raises:
        CheckpointError: it is no such folder.
    """
    try:
        return Encoding(**json.loads((folder / SETTINGS).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{folder}: no folder of embeddings ({error}); mmret encode writes one") from error


def write_part(file: Path, ids: Sequence[str], vectors: Sequence[np.ndarray], dtype: str) -> None:
    """Write a part aside and rename it; the same embeddings give the same bytes.

    Args:
        vectors: of each row [D], or [T, D] with its own T.
    """
    late = vectors[0].ndim == 2
    flat = np.concatenate(vectors, axis=0) if late else np.stack(vectors)
    numbers = pa.array(np.ascontiguousarray(flat, dtype).reshape(-1))
    column: pa.Array = pa.FixedSizeListArray.from_arrays(numbers, flat.shape[1])
    if late:
        offsets = np.concatenate([[0], np.cumsum([len(tokens) for tokens in vectors])]).astype(np.int64)
        column = pa.LargeListArray.from_arrays(pa.array(offsets), column)
    batch = pa.record_batch([pa.array(ids, pa.string()), column], names=["id", "vectors"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    _replace(file, sink.getvalue())


def complete(folder: Path) -> list[int]:
    """Look whether all parts are there and, if so, that each row is there once; gives the missing parts.

    Raises:
        SampleError: an id occurs twice, or a part has another number of rows than it should.
    """
    encoding = read_settings(folder)
    missing = encoding.missing(folder)
    if missing or (folder / COMPLETE).is_file():
        return missing
    seen: dict[str, int] = {}
    for part in range(encoding.parts):
        rows, ids = encoding.part_rows(part), _open(encoding.file(folder, part)).column("id").to_pylist()
        if len(ids) != len(rows):
            raise SampleError(f"{encoding.file(folder, part)}: {len(ids)} rows, want {len(rows)}; delete it")
        for row, id in zip(rows, ids):
            if seen.setdefault(id, row) != row:
                raise SampleError(f"{folder}: id {id!r} is that of rows {seen[id]} and {row}; each row has its own")
    _replace(folder / COMPLETE, json.dumps({"rows": len(seen), "parts": encoding.parts}).encode())
    return []


class StoredEmbeddings:
    """A complete folder as blocks of embeddings, in stored order, as often as wanted: a corpus for `search`.

    Raises:
        CheckpointError: it is no such folder, or not complete.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.encoding = read_settings(self.folder)
        missing = self.encoding.missing(self.folder)
        if missing or not (self.folder / COMPLETE).is_file():
            raise CheckpointError(
                f"{self.folder}: {len(missing)} of {self.encoding.parts} parts are missing; the command that wrote "
                "the others (mmret encode) goes on where it stopped"
            )

    def __len__(self) -> int:
        return self.encoding.rows

    def ids(self) -> list[str]:
        """Of all rows."""
        parts = range(self.encoding.parts)
        return [id for part in parts for id in _open(self.encoding.file(self.folder, part)).column("id").to_pylist()]

    def __iter__(self) -> Iterator[Embeddings]:
        for part in range(self.encoding.parts):
            column = _open(self.encoding.file(self.folder, part)).column("vectors")
            for start in range(0, len(column), BLOCK):
                yield _embeddings(column[start : start + BLOCK])


def _open(file: Path) -> pa.RecordBatch:
    return pa.ipc.open_file(pa.memory_map(str(file))).get_batch(0)


def _embeddings(column: pa.Array) -> Embeddings:
    """Rows of a part, float32; shorter rows are padded with masked zeros."""
    if not isinstance(column, pa.LargeListArray):
        dim = column.type.list_size
        return Embeddings(torch.from_numpy(column.flatten().to_numpy().astype(np.float32).reshape(-1, dim)))
    lengths = torch.from_numpy(np.diff(column.offsets.to_numpy()))
    tokens = column.flatten()
    dim = tokens.type.list_size
    flat = torch.from_numpy(tokens.flatten().to_numpy().astype(np.float32).reshape(-1, dim))
    mask = torch.arange(max(1, int(lengths.max()))) < lengths.unsqueeze(1)
    vectors = torch.zeros(*mask.shape, dim)
    vectors[mask] = flat
    return Embeddings(vectors, mask)


def _replace(file: Path, data: bytes | pa.Buffer) -> None:
    aside = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.replace(aside, file)
    finally:
        aside.unlink(missing_ok=True)
