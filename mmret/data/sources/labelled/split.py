"""One split of a labelled collection on its way to disk: a table of its pictures, then its samples."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mmret.data.shards import Sample, write_shards
from mmret.data.sources.image_folder import ImageFolder, check_scaling, deciding, read_image
from mmret.data.sources.read_ahead import read_ahead
from mmret.data.sources.record import Built, Counts, fingerprint, finish, finished, remove_shards, whole_shards
from mmret.data.sources.track import Track
from mmret.data.table import Table, write_table
from mmret.errors import ConfigError, SampleError

logger = logging.getLogger(__name__)


class PictureOptions(Protocol):
    """The options of a build that concern pictures."""

    limit: int | None
    max_side: int | None
    max_px: int | None
    skip_missing_images: bool
    workers: int


@dataclass(frozen=True)
class LabelledSplit:
    """What a split consists of."""

    name: str
    """"vqav2/val"."""
    files: Sequence[Path]
    """What it was read from."""
    samples: Sequence[Sample]
    """Rows that name pictures by id."""
    pictures: Mapping[str, str]
    """Picture id -> path below the picture folder."""
    counts: Counts
    """Of the rows, so far."""


def build_split(
    split: LabelledSplit, folder: Path, images: ImageFolder, options: PictureOptions, extra: Any, track: Track
) -> Built:
    """Write `<split>_images.arrow` and `<split>.manifest.json` with its shards; finished ones of the same stay.

    Args:
        extra: further options that decide the output.

    Raises:
        ConfigError: none of the first pictures is there.
        SampleError: a picture is missing or broken, and the options do not say to leave such out.
    """
    if not split.pictures:
        raise SampleError(f"{split.name}: {', '.join(map(str, split.files))} gave no row; left out: {split.counts}")
    sizes = images.first_sizes(split.pictures.values(), split.name)
    folder.mkdir(parents=True, exist_ok=True)
    title = split.name.rpartition("/")[2]
    decided = deciding(options, "limit", "skip_missing_images") | {"first_pictures": sizes}
    made_from = fingerprint(split.files, {"extra": extra, **decided})
    table, manifest = folder / f"{title}_images.arrow", folder / f"{title}.manifest.json"

    def write_pictures(counts: Counts) -> None:
        rows = _pictures(split, images, options, counts)
        write_table(track(rows, f"{split.name} pictures", len(split.pictures)), table)

    shown, had_table = _piece(table, table.is_file(), made_from, Counts(), write_pictures)
    kept = set(Table.open(table).ids())

    def write_samples(counts: Counts) -> None:
        remove_shards(manifest)
        write_shards(_samples(split, kept, counts), folder, title)

    whole = had_table and whole_shards(manifest)
    rows, had_samples = _piece(manifest, whole, made_from, split.counts, write_samples)
    for reason, number in rows.left_out.items():
        logger.info("%s: %d rows left out: %s (first: %s)", split.name, number, reason, rows.first[reason])
    return Built(split.name, manifest, table, rows, shown, had_table and had_samples)


def check_options(name: str, options: Any, known: Sequence[str]) -> None:
    """Whether the options of a labelled source make sense.

    Raises:
        ConfigError: they do not.
    """
    for split in options.splits:
        if split not in known:
            raise ConfigError(f"{name}: no split {split!r}; known: {', '.join(known)}")
    for field in ("limit", "workers"):
        value = getattr(options, field)
        if value is not None and value < 1:
            raise ConfigError(f"{name}: {field} must be at least 1, got {value}")
    check_scaling(name, options)


def write_classes(names: Sequence[str], folder: Path) -> Path:
    """Write `classes.txt`, which data specs and benchmarks name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "classes.txt"
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return path


def _piece(
    path: Path, here: bool, made_from: dict[str, Any], counts: Counts, write: Callable[[Counts], None]
) -> tuple[Counts, bool]:
    """What became of the rows of one file, and whether it was there already; written unless it was."""
    record = path.with_name(f"{path.name.partition('.')[0]}.build.json")
    before = finished(record, made_from) if here else None
    if before is not None:
        return before, True
    record.unlink(missing_ok=True)
    write(counts)
    finish(record, made_from, counts)
    return counts, False


def _pictures(
    split: LabelledSplit, images: ImageFolder, options: PictureOptions, counts: Counts
) -> Iterator[dict[str, Any]]:
    def read(item: tuple[str, str]) -> tuple[str, bytes, str | None]:
        """A picture's bytes, or what is wrong with it; runs in a thread."""
        id, path = item
        try:
            file = images.find(path)
            if file is None:
                return id, b"", f"no picture {path!r} in {', '.join(images.tried)}"
            return id, read_image(file, options.max_side, options.max_px)[1], None
        except (SampleError, OSError) as error:
            return id, b"", str(error)

    for id, data, problem in read_ahead(read, split.pictures.items(), options.workers):
        counts.rows += 1
        if problem is None:
            counts.kept += 1
            yield {"id": id, "image": data}
        elif options.skip_missing_images:
            counts.leave_out("picture missing or broken", problem)
        else:
            raise SampleError(f"{split.name}: {problem}; to leave such pictures out: --skip-missing-images")


def _samples(split: LabelledSplit, kept: set[str], counts: Counts) -> Iterator[Sample]:
    for sample in split.samples:
        if kept.issuperset(sample.json["query"]["images"]):
            counts.kept += 1
            yield sample
        else:
            counts.leave_out("picture missing or broken", sample.key)
