"""The one LightningDataModule: a stage's mixture as a loader of whole batches, resumable from one integer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from time import perf_counter as clock
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Sampler

from mmret.data.dataset import Failure, MixtureDataset, WorkerDataset
from mmret.data.plan import Plan, check_sizes
from mmret.data.source import Source
from mmret.data.spec import DataSpec
from mmret.errors import ConfigError
from mmret.types import Batch, Need, Processor

if TYPE_CHECKING:
    from mmret.recipe.schema import MixtureConfig, SourceConfig


class MixtureDataModule(L.LightningDataModule):
    """Batches `start` to `batches` of a stage.

    Batch i is a function of (mixture, seed, i): ranks, workers and start methods only change who loads it. The state of
    the data is therefore the number of batches that training has completed; set `start` to it before fitting again.
    Needs a Trainer with `use_distributed_sampler=False`.
    """

    def __init__(
        self,
        mixture: MixtureConfig,
        processor: Processor,
        needs: frozenset[Need],
        seed: int,
        batches: int,
        accumulate: int = 1,
    ) -> None:
        """Data of one stage; nothing is opened yet.

        Args:
            needs: what the stage's objectives need; NEGATIVES wants at least two documents per query, MASKED_QUERY gets
                a second, masked view of the texts, MASKED_IMAGE masks of patches, DOCUMENT refuses rows without
                positives, TARGETS such without label.
            batches: length of the stage in batches (optimizer steps x `accumulate`).
            accumulate: a batch holds `mixture.batch_size` / `accumulate` rows, over all ranks.
        Raises:
            ConfigError: sizes do not divide each other, or there are no negatives to draw.
        """
        super().__init__()
        check_sizes(mixture, accumulate)
        if Need.NEGATIVES in needs and mixture.documents_per_query < 2:
            raise ConfigError(
                "data.documents_per_query is 1, but an objective of this stage needs negatives; want at least 2"
            )
        self.mixture, self.processor, self.seed = mixture, processor, seed
        self.needs = needs
        self.masking = mixture.masking if Need.MASKED_QUERY in needs else None
        self.image_masking = mixture.image_masking if Need.MASKED_IMAGE in needs else None
        self.batches, self.accumulate = batches, accumulate
        self.start = 0
        """First batch of the next loader."""
        self.rank: int | None = None
        self.world: int | None = None
        """Taken from the trainer unless set."""
        self.multiprocessing_context: str | None = None
        """How data workers start: fork, spawn or forkserver; None: Python's default."""
        self._sources: dict[str, Source] | None = None
        self._configs: dict[str, SourceConfig] = {}
        self._dataset: MixtureDataset | None = None
        self._loader: _Loader | None = None

    def sources(self) -> dict[str, Source]:
        """The opened sources with a weight above 0, by name.

        Raises:
            ConfigError: a spec, manifest or table is missing or wrong, two sources are the same, or labels are read and
                a source names no classes.
            SampleError: a shard is missing, truncated or does not match its manifest.
        """
        if self._sources is None:
            opened: dict[str, Source] = {}
            for key, config in self.mixture.sources.items():
                if config.weight > 0:
                    source = DataSpec.load(key).open()
                    if source.name in opened:
                        raise ConfigError(f"data.sources.{key}: another source is named {source.name}, too")
                    opened[source.name] = source
                    self._configs[source.name] = config
                    source.synthetic = config.synthetic
                    if config.synthetic and source.recaptions is None:
                        raise ConfigError(
                            f"data.sources.{key}: synthetic is {config.synthetic:g}, but {source.spec.file} names no "
                            "`recaptions`; mmret data recaption writes them, and a spec that does"
                        )
                    if Need.TARGETS in self.needs and source.classes is None:
                        raise ConfigError(
                            f"data.sources.{key}: an objective of this stage reads labels (classify), but "
                            f"{source.spec.file} names no `classes` (a text file, one class a line)"
                        )
            # Sources that search the same table mean the same documents by the same ids.
            tables: dict[Any, str] = {}
            for source in opened.values():
                if source.documents is not None:
                    source.collection = tables.setdefault(source.documents.path.resolve(), source.name)
            self._sources = opened
        return self._sources

    def plan(self) -> Plan:
        """What each batch of the stage holds."""
        lengths = {name: source.shard_lengths for name, source in self.sources().items()}
        # By the specs' own names: the order of a source does not depend on the path by which a recipe finds it.
        return Plan(replace(self.mixture, sources=self._configs), lengths, self.seed, self.accumulate)

    def drawn(self) -> dict[str, list[int] | None]:
        """Samples of each source that the stage's batches hold, in stored order; None: about all of them."""
        plan, sources = self.plan(), self.sources()
        if self.batches * plan.size >= sum(len(source) for source in sources.values()):
            return dict.fromkeys(sources)
        found: dict[str, set[int]] = {name: set() for name in sources}
        for batch in range(self.batches):
            for run in plan.runs(batch):
                found[run.source].update(run.samples)
        return {name: sorted(indices) for name, indices in found.items()}

    def dataset(self) -> MixtureDataset:
        """This rank's batches by number."""
        rank, world = self._rank_and_world()
        plan = self.plan()
        next(plan.runs(0, rank, world))  # says now, not in a worker, that rows do not divide over the ranks
        return MixtureDataset(
            plan,
            self.sources(),
            self.processor,
            documents_per_query=self.mixture.documents_per_query,
            seed=self.seed,
            max_bad_fraction=self.mixture.max_bad_fraction,
            rank=rank,
            world=world,
            workers=self.mixture.num_workers,
            masking=self.masking,
            image_masking=self.image_masking,
            needs=self.needs,
            augment=self.mixture.augment,
            fill_negatives=self.mixture.fill_negatives,
            drop_patches=self.mixture.drop_patches,
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Loader of this rank's batches from `start` on; its length is that of the whole stage, as Lightning counts."""
        self._dataset = self.dataset()
        workers = self.mixture.num_workers
        self._loader = _Loader(
            WorkerDataset(self._dataset),  # pyright: ignore[reportArgumentType]  (the loader takes failures out)
            batch_size=None,
            sampler=_Batches(self.start, self.batches),
            num_workers=workers,
            persistent_workers=False,
            pin_memory=torch.cuda.is_available(),
            multiprocessing_context=self.multiprocessing_context if workers else None,
        )
        return self._loader

    @property
    def waited_s(self) -> float:
        """Seconds that this rank has waited for batches of its newest loader."""
        return 0.0 if self._loader is None else self._loader.waited_s

    @property
    def bad(self) -> int:
        """Broken samples that this rank's loader met, and replaced, so far."""
        return 0 if self._dataset is None else self._dataset.bad

    def _rank_and_world(self) -> tuple[int, int]:
        if self.rank is not None and self.world is not None:
            return self.rank, self.world
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size


class _Batches(Sampler[int]):
    """Batch numbers from `start` to `total`. Lightning counts from the stage's first batch, hence the length."""

    def __init__(self, start: int, total: int):
        self.start, self.total = start, total

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.total))

    def __len__(self) -> int:
        return self.total


class _Loader(DataLoader[Batch]):
    """A loader that raises what its workers met, and times how long it is waited for."""

    waited_s = 0.0
    """From asking for a batch to having it, summed."""

    def __iter__(self) -> Any:
        asked = clock()
        direct = not (self.num_workers or self.pin_memory)
        for item in map(self.dataset.__getitem__, self.sampler) if direct else super().__iter__():
            self.waited_s += clock() - asked
            if isinstance(item, Failure):
                raise item.error
            yield item
            asked = clock()

    # Lightning asks for these two before it believes that a loader can resume. There is nothing to save, as the sampler
    # begins at `start`; and what Lightning would save is rank 0's state alone.
    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        del state
