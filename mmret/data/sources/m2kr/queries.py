"""The questions of one parquet file as samples, pictures read ahead by threads."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmret.data.shards import Sample
from mmret.data.sources.image_folder import FIRST_LOOK, ImageFolder, read_image
from mmret.data.sources.m2kr.checks import Tables
from mmret.data.sources.m2kr.config import M2KRConfig
from mmret.data.sources.m2kr.facts import DatasetFacts
from mmret.data.sources.m2kr.rows import QUERY_COLUMNS, positive_ids, query_sample
from mmret.data.sources.read_ahead import read_ahead
from mmret.data.sources.record import Counts
from mmret.data.table import Table
from mmret.errors import ConfigError, SampleError


@dataclass(frozen=True)
class _Read:
    """A row on its way to a sample."""

    place: int
    """Row number in its split."""
    row: dict[str, Any]
    positives: list[str]
    image: tuple[str, bytes] | None = None
    problem: str | None = None
    """What is wrong with its picture."""


class Questions:
    """Samples of a split, file by file."""

    def __init__(self, tables: Tables, config: M2KRConfig):
        self.tables, self.config = tables, config
        self.images = image_folder(tables.dataset, config)
        self.drawn: frozenset[int] | None = None
        if config.sample is not None and config.sample < len(tables.data):
            # Seeded by the split's name alone: the draw is the same in every run.
            self.drawn = frozenset(random.Random(tables.name).sample(range(len(tables.data)), config.sample))

    def samples(self, file: int, passages: Path, counts: Counts) -> Iterator[Sample]:
        """Samples of one file in its order; `counts` is filled meanwhile.

        Raises:
            SampleError: a picture is missing or broken, and the config does not say to skip such rows.
        """
        wanted = self._wanted(file, Table.open(passages), counts)
        for read in read_ahead(self._with_image, wanted, self.config.workers):
            yield from self._finished(read, counts)

    def _wanted(self, file: int, documents: Table, counts: Counts) -> Iterator[_Read]:
        """Rows to keep, with those of their positives that the passages have."""
        start = sum(self.tables.data.file_rows[:file])
        columns = [*QUERY_COLUMNS, *self.tables.dataset.extras]
        for place, row in enumerate(self.tables.data.rows(columns, file), start):
            if self.config.limit is not None and place >= self.config.limit:
                return
            if self.drawn is not None and place not in self.drawn:
                continue
            counts.rows += 1
            named = positive_ids(row)
            known = [id for id in named if id in documents]
            if known:
                yield _Read(place, row, known)
            else:
                reason = "none of its pos_item_ids is a passage" if named else "its pos_item_ids is empty"
                counts.leave_out(reason, f"question_id {row['question_id']}")

    def _with_image(self, read: _Read) -> _Read:
        """The row with its picture's bytes, or what is wrong with it; runs in a thread."""
        path = read.row.get("img_path")
        if not path or self.images is None:
            return read
        try:
            file = self.images.find(path)
            if file is None:
                problem = f"no picture {path!r} in {', '.join(self.images.tried)}"
                return _Read(read.place, read.row, read.positives, problem=problem)
            return _Read(
                read.place, read.row, read.positives, read_image(file, self.config.max_side, self.config.max_px)
            )
        except (SampleError, OSError) as error:
            return _Read(read.place, read.row, read.positives, problem=str(error))

    def _finished(self, read: _Read, counts: Counts) -> Iterator[Sample]:
        if read.problem is not None:
            name = f"{self.tables.data.name} row {read.place} (question_id {read.row['question_id']}): {read.problem}"
            if not self.config.skip_missing_images:
                raise SampleError(f"{name}; to leave such rows out: --skip-missing-images")
            counts.leave_out("picture missing or broken", name)
            return
        counts.kept += 1
        drawn = self.config.draw_instructions and self.tables.split == "train" and self.tables.dataset.templates
        key = f"{read.place:09d}"
        yield query_sample(read.row, self.tables.dataset, key, read.positives, read.image, instructed=not drawn)


def image_folder(dataset: DatasetFacts, config: M2KRConfig) -> ImageFolder | None:
    """Where the dataset's pictures may lie; None: it has none."""
    if dataset.images is None or config.images is None:
        return None
    return ImageFolder([Path(config.images) / folder for folder in dataset.images.folders], dataset.images.prefixes)


def first_images(tables: Tables, config: M2KRConfig) -> list[int | None]:
    """Bytes of the first rows' pictures; refuses, before hours of work, a folder that does not hold even one.

    Raises:
        ConfigError: no folder was given, or none of the pictures is there.
    """
    dataset = tables.dataset
    if dataset.images is None:
        return []
    folder = image_folder(dataset, config)
    if folder is None:
        raise ConfigError(f"{dataset.name} has pictures; name the folder that holds them: --images DIR")
    rows = zip(range(FIRST_LOOK), tables.data.rows(["img_path"]))
    return folder.first_sizes((row["img_path"] for _, row in rows if row["img_path"]), tables.data.name)
