"""Progress of long work: a bar on a terminal, one line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from mmret import stop

T = TypeVar("T")
logger = logging.getLogger(__name__)

FIRST_LINE_S, LINE_EVERY_S = 5.0, 60.0
"""Seconds to the second line, and between lines later on, where there is no terminal; gaps double in between."""


class Pace:
    """When a line is due: at once, soon again to show that it moves, then once a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._next: float | None = None
        self._gap = FIRST_LINE_S

    def due(self) -> bool:
        """Ask often; each True is one line."""
        now = self.clock()
        if self._next is not None and now < self._next:
            return False
        self._next = now + self._gap
        self._gap = min(2 * self._gap, LINE_EVERY_S)
        return True


def duration(seconds: float) -> str:
    """`48 s`, `12 min`, `5 h 03 min`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """The items, with progress shown."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    items = _stoppable(items, what)
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as bar

        yield from bar(items, what, total=total, console=Console(stderr=True), transient=True)
        return
    start, pace = time.monotonic(), Pace()
    pace.due()  # what takes no time is not worth a line
    for done, item in enumerate(items):
        yield item
        if pace.due():
            of = f" of {total}" if total else ""
            logger.info("%s: %d%s, %s", what, done + 1, of, duration(time.monotonic() - start))


def _stoppable(items: Iterable[T], what: str) -> Iterator[T]:
    """The items, until a training run is asked to stop and has not come back to its steps in time."""
    for item in items:
        if stop.requested() is not None:
            from mmret.training.stopping import PATIENCE_S, stop_alone

            stop_alone(what, PATIENCE_S)
        yield item
