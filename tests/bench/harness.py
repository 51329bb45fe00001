"""Time contestants in turn and compare them: machines drift, ratios of neighbours do not."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import torch

Run = Callable[[], object]
Timed = Callable[[], tuple[float, float]]
"""Runs a contestant once; CPU-seconds and seconds of wall time."""


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


def race(name: str, contestants: dict[str, Run], *, work: float, unit: str, repeats: int = 7) -> list[Row]:
    """Run the contestants A B C A B C ...; the first is ours, ratios are to it, pair by pair.

    Args:
        work: units one call does (samples, floating-point operations).
    """
    return _race(name, {key: partial(_timed, run) for key, run in contestants.items()}, work, unit, repeats)


def race_apart(
    name: str, makers: dict[str, Callable[[], Run]], *, work: float, unit: str, repeats: int = 7
) -> list[Row]:
    """The same, each contestant in a process of its own, as its users run it.

    In one process, memory that one has freed serves the next: a peer whose pictures the system clears anew each time,
    1,500 pages each, does not pay for it there.

    Args:
        makers: make the contestant, in its process and not timed.
    """
    with ExitStack() as stack:
        timed: dict[str, Timed] = {}
        for key, make in makers.items():
            pool = ProcessPoolExecutor(1, get_context("spawn"), _prepare, (make,))
            timed[key] = partial(_elsewhere, stack.enter_context(pool))
        return _race(name, timed, work, unit, repeats)


def _race(name: str, contestants: dict[str, Timed], work: float, unit: str, repeats: int) -> list[Row]:
    for run in contestants.values():
        run()
    cpu: dict[str, list[float]] = {key: [] for key in contestants}
    wall: dict[str, list[float]] = {key: [] for key in contestants}
    for _ in range(repeats):
        for key, run in contestants.items():
            took_cpu, took = run()
            cpu[key].append(took_cpu)
            wall[key].append(took)
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


def _timed(run: Run) -> tuple[float, float]:
    started_cpu, started = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - started_cpu, time.perf_counter() - started


_prepared: list[Run] = []
"""The contestant of this process, where it has one of its own."""


def _prepare(make: Callable[[], Run]) -> None:
    torch.set_num_threads(1)
    _prepared.append(make())


def _timed_prepared() -> tuple[float, float]:
    return _timed(_prepared[0])


def _elsewhere(pool: ProcessPoolExecutor) -> tuple[float, float]:
    return pool.submit(_timed_prepared).result()
