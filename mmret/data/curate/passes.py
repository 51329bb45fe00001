"""Passes over the shards: those of a collection's samples that are still in, measured by one or several filters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmret.data.care.collection import Collection
from mmret.data.care.parallel import Piece, work_on
from mmret.data.curate.filter import Filter
from mmret.data.curate.measures import Measures
from mmret.data.curate.view import view_sample
from mmret.data.reader import ShardReader
from mmret.data.sources.track import Track
from mmret.errors import SampleError

CHUNK = 256
"""Samples that are in memory at once."""


@dataclass(frozen=True)
class Pass:
    """What a process has to know of a pass."""

    filters: tuple[Filter, ...]
    cache: Path
    alive: np.ndarray
    """[N] bool: samples to measure."""
    starts: tuple[int, ...]
    """First sample of each shard."""


def plan_passes(filters: Sequence[Filter]) -> list[list[Filter]]:
    """Neighbours that need no model share a pass; a filter with a model has its own."""
    groups: list[list[Filter]] = []
    for filter in filters:
        if groups and not filter.alone and not groups[-1][-1].alone:
            groups[-1].append(filter)
        else:
            groups.append([filter])
    return groups


def measure(
    collection: Collection, filters: Sequence[Filter], cache: Path, alive: np.ndarray, workers: int | None, track: Track
) -> int:
    """See that each of the samples has each filter's measure in the cache; gives how many shards had to be read."""
    starts = tuple(accumulate((shard.samples for shard in collection.manifest.shards), initial=0))
    todo = [Piece("shard", shard) for shard in range(len(starts) - 1) if alive[starts[shard] : starts[shard + 1]].any()]
    work = partial(_measure_shard, Pass(tuple(filters), cache, alive, starts))
    processes = 1 if any(filter.alone for filter in filters) else workers
    what = "measure " + ", ".join(filter.name for filter in filters)
    return sum(work_on(work, collection, todo, processes, track, what))


def load(collection: Collection, filter: Filter, cache: Path, alive: np.ndarray) -> tuple[pa.Array, np.ndarray]:
    """Measures of all samples that are in, in order, and what is broken: fault or None, [n] objects."""
    parts, at = [], 0
    for shard, entry in enumerate(collection.manifest.shards):
        inside = np.flatnonzero(alive[at : at + entry.samples])
        at += entry.samples
        if len(inside):
            parts.append(Measures(cache, filter, collection, shard).read(collection.kept.numbers(shard)[inside]))
    table = pa.concat_tables(parts).combine_chunks()
    return table["value"].chunk(0), np.array(table["fault"].to_pylist(), dtype=object)


def _measure_shard(job: Pass, collection: Collection, piece: Piece) -> int:
    """Measure what has no measure yet; 1 if the shard had to be read, else 0."""
    shard, start = piece.start, job.starts[piece.start]
    inside = np.flatnonzero(job.alive[start : job.starts[shard + 1]])
    numbers = collection.kept.numbers(shard)[inside]
    caches = [Measures(job.cache, filter, collection, shard) for filter in job.filters]
    open_ones = [(filter, cache) for filter, cache in zip(job.filters, caches) if len(cache.missing(numbers))]
    if not open_ones:
        return 0
    reader = ShardReader(collection.manifest)
    values: list[list[Any]] = [[] for _ in open_ones]
    wanted = [cache.missing(numbers) for _, cache in open_ones]
    todo = np.flatnonzero(np.isin(numbers, np.concatenate(wanted)))
    for first in range(0, len(todo), CHUNK):
        chunk = todo[first : first + CHUNK]
        views = [_view(collection, start + int(inside[at]), reader) for at in chunk]
        for (filter, _), mine, own in zip(open_ones, wanted, values):
            asked = [view for view, at in zip(views, chunk) if numbers[at] in mine]
            found = iter(filter.measure_all([view for view in asked if not isinstance(view, SampleError)]))
            own += [view if isinstance(view, SampleError) else next(found) for view in asked]
    for (_, cache), mine, own in zip(open_ones, wanted, values):
        cache.add(mine.tolist(), own)
    return 1


def _view(collection: Collection, index: int, reader: ShardReader) -> Any:
    try:
        return view_sample(collection, index, reader)
    except SampleError as error:
        return error
