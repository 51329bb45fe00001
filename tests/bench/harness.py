"""Time contestants in turn and compare them: machines drift, ratios of neighbours do not."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Row:
    """One contestant of one race."""

    race: str
    contestant: str
    cpu_s: float
    """Median CPU-seconds of the process per call."""
    wall_s: float
    per_second: float
    """Units of work per CPU-second."""
    unit: str
    ratio: float
    """CPU-seconds of the named peer over ours: above 1, ours is faster."""
    peak_mb: float | None = None
    """Most memory that one call's tensors take, in 10^6 bytes, where a race measures it."""


def race(
    name: str,
    contestants: dict[str, Callable[[], object]],
    *,
    work: float,
    unit: str,
    repeats: int = 7,
) -> list[Row]:
    """Run the contestants A B C A B C ...; the first is ours, ratios are to it, pair by pair.

    Args:
        work: units one call does (samples, floating-point operations).
    """
    for run in contestants.values():
        run()
    cpu: dict[str, list[float]] = {key: [] for key in contestants}
    wall: dict[str, list[float]] = {key: [] for key in contestants}
    for _ in range(repeats):
        for key, run in contestants.items():
            started_cpu, started = time.process_time(), time.perf_counter()
            run()
            cpu[key].append(time.process_time() - started_cpu)
            wall[key].append(time.perf_counter() - started)
    ours = cpu[next(iter(contestants))]
    return [
        Row(
            race=name,
            contestant=key,
            cpu_s=statistics.median(cpu[key]),
            wall_s=statistics.median(wall[key]),
            per_second=work / statistics.median(cpu[key]),
            unit=unit,
            ratio=statistics.median(theirs / mine for theirs, mine in zip(cpu[key], ours)),
        )
        for key in contestants
    ]
