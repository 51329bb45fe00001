"""Measures of a shard's samples, kept in files: what was measured once is read again, also after a kill."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmret.data.care.collection import Collection
from mmret.data.curate.filter import Filter
from mmret.errors import SampleError


class Measures:
    """What a filter measured in one shard. Samples are numbered by their place in the tar.

    The file's name has what the measures depend on: the filter's own settings, the spec's fields that say how a sample
    is read, the tables' sizes and times, and the shard's checksum.
    """

    def __init__(self, cache: Path, filter: Filter, collection: Collection, shard: int) -> None:
        name = filter.measure_name or filter.name
        entry = collection.manifest.shards[shard]
        what = _digest([name, filter.identity(), str(filter.kind), _reading(collection)])
        self.path = cache / f"{name}-{what}" / f"{_digest([Path(entry.name).name, entry.sha256 or entry.bytes])}.arrow"
        self._schema = pa.schema([("sample", pa.uint32()), ("value", filter.kind), ("fault", pa.string())])
        self.table = self._schema.empty_table()
        if self.path.is_file():
            with pa.OSFile(str(self.path)) as file:
                self.table = pa.ipc.open_file(file).read_all().combine_chunks()

    def missing(self, samples: np.ndarray) -> np.ndarray:
        """Which of these samples have no measure yet; what was broken is tried again, it may have been a bad disk."""
        whole = self.table["fault"].is_null().to_numpy(zero_copy_only=False)
        return np.setdiff1d(samples, self.table["sample"].to_numpy()[whole])

    def add(self, samples: Sequence[int], values: Sequence[Any]) -> None:
        """Join with new measures (SampleError: the sample is broken) and write; all of the file or nothing."""
        good = [None if isinstance(value, SampleError) else value for value in values]
        faults = [str(value) if isinstance(value, SampleError) else None for value in values]
        columns = [pa.array(column, self._schema.field(at).type) for at, column in enumerate((samples, good, faults))]
        old = self.table.filter(pa.array(~np.isin(self.table["sample"].to_numpy(), samples)))
        table = pa.concat_tables([old, pa.table(columns, schema=self._schema)])
        self.table = table.sort_by("sample").combine_chunks()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f"{self.path.name}.part{os.getpid()}")
        with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, self._schema) as writer:
            writer.write_table(self.table)
        os.replace(part, self.path)

    def read(self, samples: np.ndarray) -> pa.Table:
        """Rows of these samples, in their order; all have a measure."""
        return self.table.take(np.searchsorted(self.table["sample"].to_numpy(), samples))


def _reading(collection: Collection) -> list[Any]:
    """What decides how a sample of a collection is read."""
    spec, tables = collection.spec, []
    for path in (spec.documents, spec.images):
        state = spec.resolve(path).stat() if path else None
        tables.append(state and [state.st_size, state.st_mtime_ns])
    return [spec.layout, sorted(spec.required), collection.bare, tables, spec.instructions]


def _digest(what: Any) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:16]
