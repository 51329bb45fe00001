"""Is a collection whole? Every shard, sample, reference and picture is looked at; nothing is changed."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mmret.data.care.collection import Collection
from mmret.data.care.parallel import pieces, work_on
from mmret.data.care.shard import LISTED, Checked, check_piece
from mmret.data.scan import Fault, scan_shard
from mmret.data.sources.track import Track, untracked


@dataclass
class CheckReport:
    """What was looked at, and what is wrong."""

    name: str
    shards: int
    samples: int = 0
    """Whole ones that the tars hold."""
    pictures: int = 0
    """Decoded."""
    counts: Counter[str] = field(default_factory=Counter)
    """Kind of fault -> how many."""
    faults: list[Fault] = field(default_factory=list)
    """With shard, key and text; of a shard with very many only the first."""

    @property
    def healthy(self) -> bool:
        """Nothing is wrong."""
        return not self.counts

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "counts": dict(self.counts), "healthy": self.healthy}


def check(collection: Collection, workers: int | None = None, track: Track = untracked) -> CheckReport:
    """Look at everything.

    Args:
        workers: processes; None: chosen by size.
    """
    report = CheckReport(collection.spec.name, len(collection.manifest.shards))
    todo = pieces(collection)
    results = list(work_on(check_piece, collection, todo, workers, track, f"check {report.name}"))
    for found in results:
        report.samples, report.pictures = report.samples + found.samples, report.pictures + found.pictures
        report.counts.update(found.counts)
        report.faults += found.faults
    _between_shards(collection, results[: report.shards], report)
    return report


def _between_shards(collection: Collection, results: list[Checked], report: CheckReport) -> None:
    """Keys that several shards have: each was unique in its own."""
    keys = np.concatenate([found.keys for found in results])
    shard_of = np.repeat(np.arange(len(results)), [len(found.keys) for found in results])
    place_of = np.concatenate([np.arange(len(found.keys)) for found in results])
    order = np.argsort(keys, kind="stable")
    again = np.flatnonzero((keys[order[1:]] == keys[order[:-1]]) & (shard_of[order[1:]] != shard_of[order[:-1]]))
    if len(again):
        report.counts["duplicate key"] += len(again)
    names: dict[int, list[str]] = {}
    for at in again[:LISTED]:
        first, second = int(shard_of[order[at]]), int(shard_of[order[at + 1]])
        if second not in names:
            with collection.tar(second) as path:
                scan = scan_shard(path)
            names[second] = [key for key, _ in collection.kept.select(second, scan.samples)]
        key = names[second][int(place_of[order[at + 1]])]
        shard, other = (collection.manifest.shards[number].name for number in (second, first))
        text = f"{shard}:{key}: {other} has this key, too; each sample has its own"
        report.faults.append(Fault("duplicate key", shard, key, text))
