"""What a curation writes: a manifest and a data spec that name the source's files, and a table of what went."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmret.data.care.collection import Collection
from mmret.data.curate.filter import Verdict
from mmret.data.curate.recipe import Curation
from mmret.data.kept import write_kept
from mmret.data.respec import seen_from, write_spec
from mmret.data.shards import Manifest

_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("sample", pa.int64()),
        ("filter", pa.string()),
        ("value", pa.float64()),
        ("reason", pa.string()),
        ("like", pa.string()),
    ]
)


class Dropped:
    """Rows of the table of what went: shard:key, number in the source, filter, measure, reason, the original's name."""

    def __init__(self, source: Collection) -> None:
        self.source = source
        self.batches: list[pa.RecordBatch] = []

    def add(self, filter: str, indices: np.ndarray, verdict: Verdict) -> None:
        """What a filter took; `indices` are the samples that it judged."""
        rows = np.flatnonzero(~verdict.keep)
        like = [-1] * len(rows) if verdict.like is None else verdict.like[rows].tolist()
        name = self.source.reader.name
        columns = [
            [name(index) for index in indices[rows].tolist()],
            indices[rows],
            [filter] * len(rows),
            [None if np.isnan(value) else value for value in verdict.values[rows].tolist()],
            verdict.reasons[rows].tolist(),
            [None if at < 0 else name(int(indices[at])) for at in like],
        ]
        arrays = [pa.array(column, kind.type) for column, kind in zip(columns, _SCHEMA)]
        self.batches.append(pa.record_batch(arrays, schema=_SCHEMA))


def write_dropped(dropped: Dropped, path: Path) -> None:
    """Write the table in the order of the source; all of the file or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    pq.write_table(pa.Table.from_batches(dropped.batches, _SCHEMA).sort_by("sample"), part)
    os.replace(part, path)


def write_collection(curation: Curation, source: Collection, kept: np.ndarray) -> tuple[Path, Path]:
    """Manifest and data spec of the samples that are left; gives their paths.

    Args:
        kept: numbers of samples of the source, rising.
    """
    out = Path(curation.out)
    out.mkdir(parents=True, exist_ok=True)
    stem = curation.name.rpartition("/")[2]
    starts = list(accumulate((shard.samples for shard in source.manifest.shards), initial=0))
    numbers, entries = [], []
    for shard, entry in enumerate(source.manifest.shards):
        low, high = np.searchsorted(kept, starts[shard : shard + 2])
        if low < high:
            numbers.append(source.kept.numbers(shard)[kept[low:high] - starts[shard]])
            stored = entry.samples if entry.stored is None else entry.stored
            address = source.manifest.address(shard)
            name = address or seen_from(out, source.manifest.path.parent, entry.name)
            entries.append(replace(entry, name=name, samples=int(high - low), stored=stored))
    manifest = Manifest(out / f"{stem}.manifest.json", tuple(entries), f"{stem}.keep.npy")
    # A run that is killed here must not leave the old manifest beside new numbers.
    manifest.path.unlink(missing_ok=True)
    write_kept(out / f"{stem}.keep.npy", numbers)
    manifest.save()
    return manifest.path, _write_spec(curation, source, manifest, out / f"{stem}.yaml")


def _write_spec(curation: Curation, source: Collection, manifest: Manifest, path: Path) -> Path:
    """The source's spec with other shards; its tables are named from here."""
    old = source.spec
    about = (
        curation.description
        or f"{len(manifest):,} of {len(source.manifest):,} samples of {old.name}. {old.description}"
    )
    changes = {"name": curation.name, "description": about.strip(), "shards": manifest.path.name}
    return write_spec(old, path, **changes)
