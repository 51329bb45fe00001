"""Options that the sources of rows share, and what all of them do with their rows: read pictures, write samples."""

from __future__ import annotations

import datetime
import decimal
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from mmret.data.shards import Sample
from mmret.data.sources.picture import Lost, PictureReader
from mmret.data.sources.pieces import PIECE_ROWS, build_pieces, plan_pieces
from mmret.data.sources.plan import Piece
from mmret.data.sources.read_ahead import read_ahead
from mmret.data.sources.record import Built, Counts, fingerprint
from mmret.data.sources.row_file import BrokenRow, RowFiles
from mmret.data.sources.slice import Slice
from mmret.data.sources.track import Track
from mmret.errors import ConfigError, SampleError

_FIRST_LOOK = 50
_NOT_DECIDING = frozenset(("files", "out", "name", "images", "workers", "timeout_s", "retries", "slice"))


@dataclass
class RowOptions:
    """What a source of rows can be told."""

    files: list[str] = field(default_factory=list)
    """Tables (.csv, .tsv, .jsonl, also .gz; .parquet) or folders of them; at least one."""
    columns: list[str] = field(default_factory=list)
    """Names of the columns, for CSV and TSV files without a first line that says them."""
    images: str | None = None
    """Folder that picture paths are relative to; null: the first table's."""
    out: str = MISSING
    """Folder for the shards."""
    name: str = "train"
    """Of the manifest, the data spec and the shards."""
    facts: list[str] = field(default_factory=list)
    """Further columns to keep beside each row."""
    limit: int | None = None
    """Only the first so many rows."""
    max_px: int | None = None
    """Pictures whose shorter side is longer than this are scaled down to it, format kept: twice the training size."""
    skip_missing_images: bool = False
    """Leave out what a missing or broken picture belongs to, instead of stopping."""
    timeout_s: float = 20.0
    """Seconds for each try to fetch a picture from the web."""
    retries: int = 2
    """Further tries to fetch a picture, after pauses of 1, 2, 4, ... seconds."""
    piece_rows: int = PIECE_ROWS
    """Rows of a piece: what a restart repeats, and what slices share out."""
    workers: int = 16
    """Threads that read or fetch pictures."""
    slice: str | None = None
    """Build only this share of the pieces: 3/16, or slurm (by the task's number in its job array)."""

    def __post_init__(self) -> None:
        if not self.files:
            raise ConfigError("no tables; give --files FILE_OR_FOLDER ...")
        if not re.fullmatch(r"[\w-]+", self.name):
            raise ConfigError(f"--name {self.name!r}: want letters, digits, '_' and '-'; it names files")
        check_counts(self, "limit", "max_px", "piece_rows", "workers", "timeout_s")
        if self.retries < 0:
            raise ConfigError(f"retries must be at least 0, got {self.retries}")


@dataclass(frozen=True)
class Problem:
    """Why a row, or a picture of it, is left out."""

    reason: str
    text: str
    stop: bool = False
    """Unless the options say to go on, the build ends here."""

    @classmethod
    def of(cls, lost: Lost) -> Problem:
        """A picture that is not there; on the web some never are."""
        return cls(lost.cause, lost.text, stop=not lost.web)


Numbered = tuple[int, str, Any]
"""Number, place and values of a row."""
Read = Callable[[int, str, Mapping[str, Any]], tuple[Sequence[Sample], Sequence[Problem]]]
"""Number, place and values of a row to its samples, and what was left out of it."""


def check_counts(options: Any, *names: str) -> None:
    """Whether these options are None or more than 0.

    Raises:
        ConfigError: one is not.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise ConfigError(f"{name} must be more than 0, got {value}")


def picture_reader(options: RowOptions, files: RowFiles) -> PictureReader:
    """What reads the pictures of these rows.

    Raises:
        ConfigError: the folder of pictures is not there.
    """
    folder = Path(options.images) if options.images is not None else files.files[0].parent
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder of pictures (--images)")
    return PictureReader(folder, options.max_px, options.timeout_s, options.retries)


def find_first(
    files: RowFiles, pictures: PictureReader, values: Callable[[Mapping[str, Any]], Sequence[Any]]
) -> list[int | None]:
    """Refuse, before an hour of work, a folder that does not hold even one of the first rows' pictures.

    Args:
        values: a row's pictures.
    Returns:
        The size of each: another folder of pictures is another input.
    Raises:
        ConfigError: all of them are paths, and none is there.
    """
    first = [value for _, _, row in files.first(_FIRST_LOOK) if not isinstance(row, BrokenRow) for value in values(row)]
    sizes = [pictures.size(value) for value in first]
    if first and all(size == -1 for size in sizes):
        raise ConfigError(
            f"{files.files[0]}: not one of the first {len(first)} pictures is there; looked for {first[0]!r} in "
            f"{', '.join(pictures.folder.tried)}; name their folder: --images DIR"
        )
    return sizes


def build_rows(
    options: RowOptions, files: RowFiles, read: Read, required: Sequence[str], first: Sequence[int | None], track: Track
) -> Built:
    """Read all rows and write what becomes of them; what is finished stays.

    Args:
        first: what `find_first` gave.
        required: fields that every sample has, for the data spec.
    Raises:
        ConfigError: slices of another build are there.
        SampleError: no row could be used, or a picture is missing or broken and may not be.
    """
    folder, slice = Path(options.out), Slice.parse(options.slice)

    def samples(piece: Piece, counts: Counts) -> Iterator[Sample]:
        def one(row: Numbered) -> tuple[str, Sequence[Sample], Sequence[Problem]]:
            number, place, values = row
            if isinstance(values, BrokenRow):
                return place, (), (Problem("row cannot be read", values.text),)
            return place, *read(number, place, values)

        for place, made, problems in read_ahead(one, files.rows(piece), options.workers):
            counts.rows += 1
            for problem in problems:
                if problem.stop and not options.skip_missing_images:
                    raise SampleError(f"{place}: {problem.text}; to leave such out: --skip-missing-images")
                counts.leave_out(problem.reason, f"{place}: {problem.text}")
            counts.kept += len(made)
            yield from made

    deciding = {name: value for name, value in asdict(options).items() if name not in _NOT_DECIDING}
    spec = {
        "name": f"{folder.resolve().name}/{options.name}",
        "description": f"rows of {', '.join(file.name for file in files.files[:3])}"[:100],
        "shards": f"{options.name}.manifest.json",
        "required": list(required),
    }
    plan = plan_pieces(
        folder,
        options.name,
        fingerprint(files.files, deciding | {"first_pictures": list(first)}),
        spec,
        lambda: files.pieces(options.piece_rows, options.limit),
        slice,
    )
    return build_pieces(plan, samples, slice, track)


def fact(value: Any) -> Any:
    """A value as JSON can hold it; None: it cannot, as pictures' bytes."""
    if isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple)):
        return [fact(one) for one in value]
    if isinstance(value, dict):
        return {str(name): fact(one) for name, one in value.items() if not isinstance(one, bytes)}
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return str(value) if isinstance(value, decimal.Decimal) else None
