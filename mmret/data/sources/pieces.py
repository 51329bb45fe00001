"""A build piece by piece: what is finished stays, each task builds its slice, the last one joins them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from mmret.data.shards import Sample, write_shards
from mmret.data.sources.plan import Done, Piece, Plan, total
from mmret.data.sources.record import Built, Counts
from mmret.data.sources.slice import Slice
from mmret.data.sources.track import Track
from mmret.errors import ConfigError, SampleError

logger = logging.getLogger(__name__)

PIECE_ROWS = 10_000
"""Rows of a piece, if nobody says otherwise: about a shard."""


class Listed(Counts):
    """Counts of a piece that also keep each row that was left out."""

    def __init__(self) -> None:
        super().__init__()
        self.listed: list[list[str]] = []

    def leave_out(self, reason: str, row: str) -> None:
        """Count and keep a row that is not written."""
        super().leave_out(reason, row)
        self.listed.append([reason, row])


def even_pieces(rows: int, size: int) -> list[Piece]:
    """Pieces of a list that lies in memory."""
    return [Piece(first, min(size, rows - first), row=first) for first in range(0, rows, size)]


def plan_pieces(
    folder: Path,
    name: str,
    made_from: Mapping[str, Any],
    spec: Mapping[str, Any],
    cut: Callable[[], list[Piece]],
    slice: Slice,
) -> Plan:
    """The plan that is there, if it is of the same build; else a new one, what the other had built removed.

    Args:
        cut: gives the pieces; may take long, as it reads all of the input.
    Raises:
        ConfigError: slices of another build are there.
        SampleError: there are no rows.
    """
    stored = Plan.load(folder, name)
    if stored is not None and stored.made_from == made_from:
        return stored
    if stored is not None and slice.count > 1:
        # Another task of this build may be writing already what this one would remove.
        raise ConfigError(
            f"{stored.records}: of a build from other files or with other options; give another --name or --out, or "
            f"remove {folder / name}*"
        )
    if stored is not None:
        stored.remove()
    pieces = cut()
    if not pieces:
        raise SampleError(f"{folder / name}: no rows to build it from")
    plan = Plan(folder, name, made_from, tuple(pieces), spec)
    plan.save()
    return plan


def build_pieces(plan: Plan, samples: Callable[[Piece, Counts], Iterator[Sample]], slice: Slice, track: Track) -> Built:
    """Build what this slice lacks, and join all slices if none lacks anything.

    Args:
        samples: of a piece; fills the counts meanwhile. The bytes must depend on the piece alone.
    Raises:
        SampleError: not one row of all could be used.
    """
    title = f"{plan.folder.resolve().name}/{plan.name}"
    todo = [number for number in slice.share(range(len(plan.pieces))) if plan.done(number) is None]
    bar = track(repeat(None), title, sum(plan.pieces[number].rows for number in todo)) if todo else iter(())
    try:
        for number in todo:
            _build_piece(plan, number, samples, bar)
    finally:
        if isinstance(bar, Generator):
            bar.close()
    mine = [done for number in slice.share(range(len(plan.pieces))) if (done := plan.done(number)) is not None]
    counts = total(mine)
    for reason, count in counts.left_out.items() if todo else ():
        logger.warning("%s: %d left out: %s (first: %s)", title, count, reason, counts.first[reason])
    if todo or not plan.manifest.is_file():
        missing = plan.missing()
        if not missing:
            plan.join()
        else:
            left = f"{len(missing)} of {len(plan.pieces)} pieces are left to the other slices"
            logger.warning("%s: slice %s is built; %s, the last of which joins them", title, slice, left)
    name = title if slice.count == 1 else f"{title} {slice}"
    return Built(name, plan.manifest, None, counts, Counts(), skipped=not todo)


def _build_piece(
    plan: Plan, number: int, samples: Callable[[Piece, Counts], Iterator[Sample]], bar: Iterator[Any]
) -> None:
    counts, shards = Listed(), ()
    plan.clear(number)
    rows = _shown(samples(plan.pieces[number], counts), counts, bar)
    first = next(rows, None)
    if first is not None:
        manifest = write_shards(chain([first], rows), plan.folder, f"{plan.name}-{number:05d}")
        manifest.path.unlink()
        shards = manifest.shards
    plain = Counts(counts.rows, counts.kept, counts.left_out, counts.first)
    plan.finish(number, Done(plain, shards, counts.listed))


def _shown(samples: Iterator[Sample], counts: Counts, bar: Iterator[Any]) -> Iterator[Sample]:
    """The samples; the bar moves by the rows that were read."""
    shown = 0
    for sample in samples:
        yield sample
        while shown < counts.rows:
            next(bar, None)
            shown += 1
    while shown < counts.rows:
        next(bar, None)
        shown += 1
