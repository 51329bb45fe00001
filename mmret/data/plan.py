"""What is in global batch i: the rows' sources, epochs and samples, as pure arithmetic on (seed, i)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mmret.data.mixture import Mixture
from mmret.data.order import SampleOrder
from mmret.errors import ConfigError

if TYPE_CHECKING:
    from mmret.recipe.schema import MixtureConfig


class Row(NamedTuple):
    """One row of a batch; all further choices (which positive, ...) are keyed by these values."""

    source: str
    epoch: int
    index: int
    """Sample of the source, in stored order."""
    position: int
    """Rows of the source before this one, over all epochs."""


class Run(NamedTuple):
    """Rows that follow each other in one epoch of a source."""

    source: str
    epoch: int
    samples: list[int]
    """Of the source, in stored order."""
    position: int
    """Rows of the source before the first."""

    def rows(self) -> list[Row]:
        """Row by row."""
        return [Row(self.source, self.epoch, sample, self.position + at) for at, sample in enumerate(self.samples)]


class Plan:
    """The rows of a stage as one endless list, cut into batches.

    Row g belongs to block g // block_size; the mixture gives a block's source and how many blocks that source had,
    hence the row's position in it. Ranks, workers and accumulation only decide how the list is cut.
    """

    def __init__(
        self, mixture: MixtureConfig, lengths: Mapping[str, Sequence[int]], seed: int, accumulate: int = 1
    ) -> None:
        """Plan of a stage.

        Args:
            lengths: source -> samples of each of its shards, for each source of the mixture with a weight above 0.
            accumulate: a batch is 1/accumulate of `mixture.batch_size` rows.
        Raises:
            ConfigError: sizes do not divide each other, or no weight is above 0.
        """
        check_sizes(mixture, accumulate)
        self.size = mixture.batch_size // accumulate
        self.optimizer_batch = mixture.batch_size
        self.block = mixture.block_size or mixture.batch_size
        self.mixture = Mixture({name: source.weight for name, source in mixture.sources.items()}, seed)
        self.orders = {
            name: SampleOrder(
                _capped(lengths[name], mixture.sources[name].max_samples), name, seed, mixture.shuffle_window
            )
            for name in self.mixture.sources
        }

    def rows(self, batch: int, rank: int = 0, world: int = 1) -> list[Row]:
        """This rank's rows of a batch: a contiguous slice, so that the ranks' rows joined are the one-rank batch.

        Raises:
            ConfigError: the batch does not divide by the number of ranks.
        """
        return [row for run in self.runs(batch, rank, world) for row in run.rows()]

    def runs(self, batch: int, rank: int = 0, world: int = 1) -> Iterator[Run]:
        """The same rows, those together that follow each other in a source.

        Raises:
            ConfigError: the batch does not divide by the number of ranks.
        """
        if self.size % world:
            raise ConfigError(
                f"data.batch_size: {self.optimizer_batch} rows do not divide over {world} ranks x "
                f"{self.optimizer_batch // self.size} accumulation steps; make it a multiple of "
                f"{world * (self.optimizer_batch // self.size)}"
            )
        share = self.size // world
        first = batch * self.size + rank * share
        last = first + share
        while first < last:
            block, inside = divmod(first, self.block)
            source, before = self.mixture.block(block)
            position, count = before * self.block + inside, min(self.block - inside, last - first)
            for epoch, samples in self.orders[source].runs(position, count):
                yield Run(source, epoch, samples, position)
                position += len(samples)
            first += count

    def replacement(self, row: Row, attempt: int) -> Row:
        """The row to use when `row` is broken, and its first `attempt` - 1 replacements as well.

        One optimizer batch ahead in the same source, so never a row of this batch again; then one by one.
        """
        return self._at(row.source, row.position + self.optimizer_batch + attempt - 1)

    def _at(self, source: str, position: int) -> Row:
        epoch, index = self.orders[source].locate(position)
        return Row(source, epoch, index, position)


def check_sizes(mixture: MixtureConfig, accumulate: int = 1) -> None:
    """Whether the sizes of a mixture divide each other (its fields' ranges are the schema's).

    Raises:
        ConfigError: they do not.
    """
    if mixture.batch_size % accumulate:
        raise ConfigError(
            f"data.batch_size: {mixture.batch_size} rows do not divide into {accumulate} accumulation steps "
            "(trainer.accumulate)"
        )
    if mixture.block_size and mixture.batch_size % mixture.block_size:
        raise ConfigError(
            f"data.block_size: blocks of {mixture.block_size} rows do not fill a batch of {mixture.batch_size}; "
            "want a divisor of batch_size"
        )


def _capped(lengths: Sequence[int], max_samples: int | None) -> list[int]:
    """Shard lengths, cut after the first `max_samples` samples."""
    left = sum(lengths) if max_samples is None else max_samples
    capped = []
    for length in lengths:
        capped.append(min(length, left))
        left -= capped[-1]
    return [length for length in capped if length]
