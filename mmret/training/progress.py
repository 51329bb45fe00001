"""Progress of long work: a bar on a terminal, one line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")
logger = logging.getLogger(__name__)

LINE_EVERY_S = 15.0
"""Seconds between lines where there is no terminal."""


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """The items, with progress shown."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as bar

        yield from bar(items, what, total=total, console=Console(stderr=True), transient=True)
        return
    start = shown = time.monotonic()
    for done, item in enumerate(items):
        yield item
        if time.monotonic() - shown > LINE_EVERY_S:
            shown = time.monotonic()
            of = f" of {total}" if total else ""
            logger.info("%s: %d%s, %.0f s", what, done + 1, of, shown - start)
