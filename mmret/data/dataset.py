"""Batches by number: one item is this rank's part of a global batch. Broken samples are replaced here, and counted."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch.utils.data import Dataset, get_worker_info

from mmret.data.augment import augment_row
from mmret.data.collate import collate
from mmret.data.draw import Drawn, draw
from mmret.data.patch_dropping import patches_of
from mmret.data.plain import PlainRows
from mmret.data.plan import Plan, Row, Run
from mmret.data.source import Source
from mmret.errors import MMRetError, SampleError
from mmret.recipe.schema import AugmentConfig, ImageMaskingConfig, MaskingConfig
from mmret.types import Batch, Need, Processor

logger = logging.getLogger(__name__)

_SHOWN = 3
"""Broken samples of a source that each process logs."""
_PATIENCE = 20
"""Broken samples below which the share is not judged."""


class Failure:
    """An error on its way out of a data worker (raised there, torch would bury it in the worker's traceback)."""

    def __init__(self, error: MMRetError):
        self.error = error


class MixtureDataset(Dataset[Batch]):
    """`dataset[i]` is this rank's part of batch i, whichever process asks. Pickles: files are opened where it lands."""

    def __init__(
        self,
        plan: Plan,
        sources: Mapping[str, Source],
        processor: Processor,
        *,
        documents_per_query: int,
        seed: int,
        max_bad_fraction: float,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        masking: MaskingConfig | None = None,
        image_masking: ImageMaskingConfig | None = None,
        needs: frozenset[Need] = frozenset({Need.DOCUMENT}),
        augment: AugmentConfig | None = None,
        fill_negatives: bool = True,
        drop_patches: float = 0.0,
    ) -> None:
        self.plan, self.sources, self.processor = plan, dict(sources), processor
        self.documents_per_query, self.seed, self.max_bad_fraction = documents_per_query, seed, max_bad_fraction
        self.rank, self.world, self.needs = rank, world, needs
        self.masking, self.image_masking, self.drop_patches = masking, image_masking, drop_patches
        if drop_patches:
            patches_of(processor)  # says now, not in a worker, that the model cannot
        self.ragged = None if fill_negatives else documents_per_query
        """Most documents of a row, where rows may have fewer."""
        picture = getattr(processor, "picture", None)
        self.augment, self.px = augment, None if picture is None else picture.px
        # A slot for each process that loads, in shared memory: no locks, and the training process sees the sum.
        self._bad_counts = torch.zeros(max(workers, 1), dtype=torch.int64).share_memory_()
        self._reads = dict.fromkeys(self.sources, 0)
        self._plain = {
            name: PlainRows(source, documents_per_query, seed, needs) for name, source in self.sources.items()
        }
        self._bad: dict[str, set[int]] = {name: set() for name in self.sources}

    @property
    def bad(self) -> int:
        """Broken samples met by this rank's loading processes, repeats included."""
        return int(self._bad_counts.sum())

    def __getitem__(self, batch: int) -> Batch:
        """This rank's part of a batch.

        Raises:
            SampleError: too many samples of a source are broken.
            ConfigError: rows cannot get as many documents as asked for.
        """
        runs = list(self.plan.runs(batch, self.rank, self.world))
        drawn = self._draw_plain(runs)
        if drawn is not None:
            try:
                made = self._collate(drawn)
            except SampleError:
                pass  # found again, counted and replaced, row by row
            else:
                for run in runs:
                    self._reads[run.source] += len(run.samples)
                return made
        rows = [_Place(row) for run in runs for row in run.rows()]
        drawn = [self._draw(place) for place in rows]
        while True:
            try:
                return self._collate(drawn)
            except SampleError:
                # An image that does not decode shows only here. Find the rows that fail alone; any other rank or
                # worker would find the same ones.
                culprits = [(at, error) for at, row in enumerate(drawn) if (error := self._fault(row)) is not None]
                if not culprits:
                    raise
                for at, error in culprits:
                    self._replace(rows[at], error)
                    drawn[at] = self._draw(rows[at])

    def _collate(self, rows: list[Drawn]) -> Batch:
        return collate(rows, self.processor, self.masking, self.ragged, self.image_masking, self.drop_patches)

    def _draw_plain(self, runs: list[Run]) -> list[Drawn] | None:
        """The rows of a batch, if all are plain."""
        if self.augment is not None:
            return None
        drawn: list[Drawn] = []
        for run in runs:
            rows = self._plain[run.source].draw(run)
            if rows is None:
                return None
            drawn += rows
        return drawn

    def _draw(self, place: _Place) -> Drawn:
        """The row at a place or, as long as that is broken, its replacements."""
        while True:
            self._reads[place.row.source] += 1
            try:
                source, fill = self.sources[place.row.source], self.ragged is None
                row = draw(source, place.row, self.documents_per_query, self.seed, self.needs, fill)
                return row if self.augment is None else augment_row(row, self.augment, self.px)
            except SampleError as error:
                self._replace(place, error)

    def _fault(self, row: Drawn) -> SampleError | None:
        try:
            self._collate([row])
        except SampleError as error:
            return error
        return None

    def _replace(self, place: _Place, error: SampleError) -> None:
        """Count a broken sample, and move the place on.

        The share of a source's broken samples is judged by each process for what it has read, once it has met 20 of
        them or a tenth of the source; a share of 0 allows none.
        """
        name = place.row.source
        worker = get_worker_info()
        self._bad_counts[worker.id if worker else 0] += 1
        bad = self._bad[name]
        if place.row.index not in bad:
            bad.add(place.row.index)
            if len(bad) <= _SHOWN:
                last = "; further ones are counted only (train/skipped)" if len(bad) == _SHOWN else ""
                logger.warning("broken sample replaced: %s%s", error, last)
        size = len(self.plan.orders[name])
        seen = min(self._reads[name], size)
        judged = self.max_bad_fraction == 0 or len(bad) >= min(_PATIENCE, max(size // 10, 1))
        if (judged and len(bad) > self.max_bad_fraction * seen) or place.attempts >= size:
            raise SampleError(
                f"source {name}: {len(bad):,} of {seen:,} samples read are broken, more than data.max_bad_fraction = "
                f"{self.max_bad_fraction:g} allows; the last one: {error}. "
                "Repair or repack the shards, or raise the limit"
            ) from error
        place.attempts += 1
        place.row = self.plan.replacement(place.first, place.attempts)


class WorkerDataset(Dataset["Batch | Failure"]):
    """The same for data workers: our errors come back as values, with their own text."""

    def __init__(self, dataset: MixtureDataset):
        self.dataset = dataset

    def __getitem__(self, batch: int) -> Batch | Failure:
        try:
            return self.dataset[batch]
        except MMRetError as error:
            return Failure(error)


class _Place:
    """A row of a batch, and how often it was replaced."""

    def __init__(self, row: Row):
        self.first = self.row = row
        self.attempts = 0
