"""Going on in the middle of 1,000 shards, and memory over a long run: what is skipped is free, nothing piles up."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

import psutil

from mmret.data import MixtureDataModule, Sample, write_shards
from mmret.data.reader import ShardReader
from mmret.recipe.schema import MixtureConfig, SourceConfig
from tests.bench.harness import Row, race
from tests.bench.loader import WORDS, Nothing

T = TypeVar("T")

SHARDS, PER_SHARD, BATCH = 1000, 100, 64
SAMPLES = SHARDS * PER_SHARD
BATCHES = 10 * SAMPLES // BATCH
POINTS = (10_000, 30_000, SAMPLES)


def run() -> list[Row]:
    """From opening the set to the first batch, near the end of ten epochs and at the beginning; then one pass over all.

    The time to look at is wall_s (results.json): the issue wants less than 2.
    """
    with tempfile.TemporaryDirectory() as name:
        spec = _shards(Path(name))
        near_end = BATCHES - 1
        for start in (0, near_end):
            read: list[int] = []
            with patch.object(ShardReader, "read_all", _counted(ShardReader.read_all, read)):
                _first_batch(spec, start)
            assert len(read) == BATCH, f"{len(read)} samples were read for a first batch of {BATCH}"
        rows = race(
            f"resume, {SHARDS:,} shards, opening to first batch",
            {
                f"at batch {near_end:,}": lambda: _first_batch(spec, near_end),
                "at batch 0": lambda: _first_batch(spec, 0),
            },
            work=1,
            unit="starts",
        )
        return [*rows, *_long_run(spec)]


def _counted(read_all: Callable[..., Iterable[T]], read: list[int]) -> Callable[..., Iterator[T]]:
    def counted(self: ShardReader, indices: Iterable[int], views: bool = False) -> Iterator[T]:
        indices = list(indices)
        for index, sample in zip(indices, read_all(self, indices, views)):
            read.append(index)
            yield sample

    return counted


def _shards(folder: Path) -> str:
    rows = (
        Sample(
            f"{number:06d}",
            {
                "query": {"text": " ".join(WORDS[: 5 + number % 12])},
                "positives": [{"id": str(number), "text": " ".join(WORDS * 3)}],
            },
        )
        for number in range(SAMPLES)
    )
    write_shards(rows, folder, "train", max_samples=PER_SHARD)
    (folder / "text.yaml").write_text("name: bench/thousand\nshards: train.manifest.json\n")
    return str(folder / "text.yaml")


def _open(spec: str) -> MixtureDataModule:
    mixture = MixtureConfig(sources={spec: SourceConfig()}, batch_size=BATCH)
    return MixtureDataModule(mixture, Nothing(), frozenset(), 0, BATCHES)


def _first_batch(spec: str, start: int) -> None:
    data = _open(spec)
    data.start = start
    next(iter(data.train_dataloader()))


def _long_run(spec: str) -> list[Row]:
    """Memory and speed after some samples of one pass; ratios are of the CPU-seconds for each sample."""
    rows: list[Row] = []
    process, done, points = psutil.Process(), 0, list(POINTS)
    started_cpu, started = time.process_time(), time.perf_counter()
    for batch in _open(spec).train_dataloader():
        done += len(batch)
        if done < points[0]:
            continue
        cpu, wall = time.process_time() - started_cpu, time.perf_counter() - started
        gc.collect()
        memory = process.memory_info()
        first = done / rows[0].per_second if rows else cpu
        rows.append(
            Row(
                race="one long pass, memory of the process",
                contestant=f"after {points.pop(0):,} samples",
                cpu_s=cpu,
                wall_s=wall,
                per_second=done / cpu,
                unit="samples",
                ratio=cpu / first,
                # Of its own: pages of mapped files are the system's to take back.
                peak_mb=(memory.rss - memory.shared) / 1e6,
            )
        )
        if not points:
            break
    return rows
