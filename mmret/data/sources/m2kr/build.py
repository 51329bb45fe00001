"""Building M2KR: for each split a passages table, shards part by part, and their manifest; finished ones stay."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from mmret.data.shards import Manifest, Sample, write_shards
from mmret.data.sources.image_folder import deciding
from mmret.data.sources.m2kr.checks import Tables, open_tables
from mmret.data.sources.m2kr.config import M2KRConfig
from mmret.data.sources.m2kr.passages import build_passages
from mmret.data.sources.m2kr.queries import Questions, first_images
from mmret.data.sources.record import (
    Built,
    Counts,
    fingerprint,
    finish,
    finished,
    remove_shards,
    whole_shards,
)
from mmret.data.sources.slice import Slice
from mmret.data.sources.track import Track, untracked
from mmret.errors import ConfigError, SampleError

logger = logging.getLogger(__name__)


def build_m2kr(config: M2KRConfig, track: Track = untracked) -> list[Built]:
    """Check the tables, then build every split that is not finished yet.

    Raises:
        ConfigError: tables or pictures are missing, incomplete, or a copy known to be wrong.
        SampleError: a row names a picture that is not there.
    """
    tables, findings = open_tables(Path(config.tables), config.datasets, config.splits)
    errors = [finding.text for finding in findings if finding.level == "error"]
    if errors and not (config.force and tables):
        raise ConfigError("\n".join([*errors, "To build all the same: --force"] if tables else errors))
    for finding in findings:
        logger.warning(finding.text)
    sizes = [first_images(table, config) for table in tables]
    # Each split has files of its own, so that tasks do not meet.
    mine = Slice.parse(config.slice).share(sorted(tables, key=lambda table: -len(table.data)))
    return [_build_split(table, first, config, track) for table, first in zip(tables, sizes) if table in mine]


def _build_split(tables: Tables, first: list[int | None], config: M2KRConfig, track: Track) -> Built:
    folder = Path(config.out) / tables.dataset.folder
    folder.mkdir(parents=True, exist_ok=True)
    passages, documents, unchanged = build_passages(tables, folder, config.limit, track)
    manifest, record = folder / f"{tables.split}.manifest.json", folder / f"{tables.split}.build.json"
    made_from = fingerprint(
        (*tables.data.files, *tables.passages.files),
        deciding(config, "limit", "sample", "draw_instructions", "skip_missing_images") | {"first_pictures": first},
    )
    counts = finished(record, made_from)
    if counts is not None and unchanged and whole_shards(manifest):
        return Built(tables.name, manifest, passages, counts, documents, skipped=True)
    remove_shards(manifest)
    questions, counts, shards = Questions(tables, config), Counts(), []
    for number in range(len(tables.data.files)):
        part, found = _build_part(questions, number, folder, passages, made_from, track)
        counts.add(found)
        shards += part.shards if part else ()
    if not shards:
        raise SampleError(f"{tables.data.name}: none of its {counts.rows:,} rows could be used: {counts.left_out}")
    Manifest(manifest, tuple(shards)).save()
    finish(record, made_from, counts)
    for number in range(len(tables.data.files)):
        for file in _part_files(folder, tables.split, number):
            file.unlink(missing_ok=True)
    for reason, count in counts.left_out.items():
        logger.warning("%s: %d rows left out: %s (first: %s)", tables.name, count, reason, counts.first[reason])
    return Built(tables.name, manifest, passages, counts, documents, skipped=False)


def _build_part(
    questions: Questions, number: int, folder: Path, passages: Path, made_from: dict[str, Any], track: Track
) -> tuple[Manifest | None, Counts]:
    """The shards of one parquet file (the piece that a restart does not repeat); None if it gives no row."""
    tables = questions.tables
    manifest, record = _part_files(folder, tables.split, number)
    counts = finished(record, made_from)
    if counts is not None and (whole_shards(manifest) or not counts.kept):
        return (Manifest.load(manifest) if counts.kept else None), counts
    counts = Counts()
    samples: Iterator[Sample] = questions.samples(number, passages, counts)
    total = tables.data.file_rows[number]
    if questions.config.limit is not None:
        total = min(total, questions.config.limit)
    samples = track(samples, tables.name, total)
    first = next(samples, None)
    written = None
    if first is not None:
        written = write_shards(chain([first], samples), folder, manifest.name.partition(".")[0])
    finish(record, made_from, counts)
    return written, counts


def _part_files(folder: Path, split: str, number: int) -> tuple[Path, Path]:
    """Manifest and record of one part."""
    return folder / f"{split}-{number:05d}.manifest.json", folder / f"{split}-{number:05d}.build.json"
