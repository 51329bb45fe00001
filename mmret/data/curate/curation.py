"""A curation at work: measure, judge, go on with who is left; in the end a manifest over the same tars."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmret.data.care.collection import Collection
from mmret.data.curate.filter import Filter, Verdict
from mmret.data.curate.outcome import Dropped, write_collection, write_dropped
from mmret.data.curate.passes import load, measure, plan_passes
from mmret.data.curate.recipe import Curation, settings
from mmret.data.sources.track import Track, untracked
from mmret.errors import ConfigError

EXAMPLES = 6
"""Samples of each kind that a report shows of a filter."""
BROKEN = "broken"
"""Reason of samples that a filter cannot read."""


@dataclass
class Step:
    """What one filter did."""

    name: str
    unit: str
    config: dict[str, Any]
    before: int
    after: int
    reasons: Counter[str]
    """Why samples went -> how many."""
    facts: dict[str, Any]
    values: Counter[float]
    """Measure -> how many of those that reached the filter."""
    kept: list[tuple[int, float]] = field(default_factory=list)
    """(sample of the source, measure) of some that stay."""
    dropped: list[tuple[int, float, str]] = field(default_factory=list)
    """Of some that go, with the reason."""


@dataclass
class Curated:
    """What came of a curation."""

    curation: Curation
    source: Collection
    steps: list[Step]
    kept: np.ndarray
    """Samples of the source that stay, rising."""
    spec: Path
    manifest: Path
    measured: dict[str, int]
    """Filter -> shards that were read for it this time; what the cache has is not read again."""


def curate(
    curation: Curation,
    known: Mapping[str, type[Filter]],
    workers: int | None = None,
    track: Track = untracked,
    device: str | None = None,
) -> Curated:
    """Filter a collection; writes `<name>.manifest.json`, `.keep.npy`, `.yaml`, and `dropped.parquet` and `cache/`.

    What is written is a function of source and curation: measures of an earlier run, whole or killed, are used again.

    Args:
        known: name -> filter.
        workers: processes for filters without a model; None: chosen by size.

    Raises:
        ConfigError: the curation is wrong, or nothing is left.
        SampleError: a shard is missing, truncated, or does not match the manifest.
    """
    filters = curation.open(known, device)
    source = Collection.find(curation.source)
    source.reader.check()
    out = Path(curation.out)
    cache = out / "cache"
    alive = np.ones(len(source.manifest), bool)
    steps: list[Step] = []
    dropped = Dropped(source)
    measured: dict[str, int] = {}
    for group in plan_passes(filters):
        read = measure(source, group, cache, alive, workers, track)
        for filter in group:
            measured[f"{len(steps)}.{filter.name}"] = read
            indices = np.flatnonzero(alive)
            verdict = _judge(source, filter, cache, alive, indices)
            dropped.add(f"{len(steps)}.{filter.name}", indices, verdict)
            steps.append(_step(filter, indices, verdict))
            alive[indices[~verdict.keep]] = False
            if not alive.any():
                raise ConfigError(_nothing_left(curation, steps))
    kept = np.flatnonzero(alive)
    write_dropped(dropped, out / "dropped.parquet")
    manifest, spec = write_collection(curation, source, kept)
    return Curated(curation, source, steps, kept, spec, manifest, measured)


def _judge(source: Collection, filter: Filter, cache: Path, alive: np.ndarray, indices: np.ndarray) -> Verdict:
    """The filter's verdict on those that it could read; the others go."""
    values, faults = load(source, filter, cache, alive)
    whole = np.array([fault is None for fault in faults], bool)
    rows = np.flatnonzero(whole)
    reasons = np.array([f"{BROKEN}: {fault}" if fault is not None else "" for fault in faults], dtype=object)
    measures, like = np.full(len(indices), np.nan), np.full(len(indices), -1, np.int64)
    facts: dict[str, Any] = {}
    if len(rows):
        verdict = filter.judge(values.take(rows), indices[rows])
        reasons[rows], measures[rows], facts = verdict.reasons, verdict.values, verdict.facts
        if verdict.like is not None:
            like[rows] = np.where(verdict.like >= 0, rows[verdict.like], -1)
    return Verdict(reasons, measures, like, facts)


def _step(filter: Filter, indices: np.ndarray, verdict: Verdict) -> Step:
    reasons = Counter(BROKEN if reason.startswith(f"{BROKEN}: ") else reason for reason in verdict.reasons if reason)
    known = verdict.values[~np.isnan(verdict.values)]
    values, counts = np.unique(np.round(known, 4), return_counts=True)
    stay, go = np.flatnonzero(verdict.keep), np.flatnonzero(~verdict.keep)
    return Step(
        filter.name,
        filter.unit,
        settings(filter),
        len(indices),
        len(stay),
        Counter(dict(reasons.most_common())),
        verdict.facts,
        Counter(dict(zip(values.tolist(), counts.tolist()))),
        [(int(indices[at]), float(verdict.values[at])) for at in _spread(stay)],
        [(int(indices[at]), float(verdict.values[at]), str(verdict.reasons[at])) for at in _spread(go)],
    )


def _spread(rows: np.ndarray) -> Sequence[int]:
    """Some of the rows, from the first to the last."""
    num = min(EXAMPLES, len(rows))
    return [int(rows[at * (len(rows) - 1) // max(num - 1, 1)]) for at in range(num)]


def _nothing_left(curation: Curation, steps: Sequence[Step]) -> str:
    width = max(len(step.name) for step in steps)
    lines = []
    for step in steps:
        why = ", ".join(f"{reason} {count:,}" for reason, count in step.reasons.most_common(3))
        lines.append(f"  {step.name:<{width}}  {step.before:>9,} -> {step.after:>9,}  {why}".rstrip())
    table = "\n".join(lines)
    return f"{curation.file}: no sample of {curation.source} is left; loosen a filter:\n{table}"
