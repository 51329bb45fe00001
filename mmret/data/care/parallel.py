"""The pieces of a collection, worked on by several processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, TypeVar

from mmret.data.care.collection import Collection
from mmret.data.sources.track import Track

Result = TypeVar("Result")

ROWS = 20_000
"""Rows of a table in one piece."""
SMALL_BYTES = 64_000_000
"""Below this starting processes takes longer than the work."""


@dataclass(frozen=True)
class Piece:
    """A shard, or some rows of a table."""

    part: str
    """shard | documents | images"""
    start: int
    """Number of the shard, or of the first row."""
    stop: int = 0


def pieces(collection: Collection) -> list[Piece]:
    """All shards, then all rows of the tables."""
    found = [Piece("shard", number) for number in range(len(collection.manifest.shards))]
    for part, table in (("documents", collection.documents), ("images", collection.images)):
        if table is not None:
            found += [Piece(part, at, min(at + ROWS, len(table))) for at in range(0, len(table), ROWS)]
    return found


def work_on(
    work: Callable[[Collection, Piece], Result],
    collection: Collection,
    todo: Sequence[Piece],
    workers: int | None,
    track: Track,
    what: str,
) -> Iterator[Result]:
    """`work` of each piece, in order.

    Args:
        work: a function of a module: other processes import it.
        workers: processes; None: as many as there are processors, or this one alone where there is little to do.
    """
    if workers is None:
        size = sum(shard.bytes for shard in collection.manifest.shards)
        workers = 1 if size < SMALL_BYTES else min(os.cpu_count() or 1, len(todo))
    if workers <= 1 or len(todo) <= 1:
        yield from (work(collection, piece) for piece in track(todo, what))
        return
    # Not forked: the progress bar is a thread of this process.
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin, (work, collection)) as pool:
        yield from track(pool.map(_do, todo), what, len(todo))


_task: tuple[Callable[[Collection, Piece], Any], Collection] | None = None


def _begin(work: Callable[[Collection, Piece], Any], collection: Collection) -> None:
    global _task  # what a process of the pool does, sent once and not with every piece
    _task = (work, collection)


def _do(piece: Piece) -> Any:
    assert _task is not None
    return _task[0](_task[1], piece)
