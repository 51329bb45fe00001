"""The order of one source's samples: position r -> (epoch, sample), each sample once per epoch, for any r at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from mmret.data.dice import permutation


class SampleOrder:
    """Shards in an order of their own each epoch, then windows of consecutive samples of that order, each shuffled.

    A lookup costs two small cached permutations, so going on at any position costs the same as starting.
    """

    def __init__(self, shard_lengths: Sequence[int], source: str, seed: int, window: int):
        """Order of a source.

        Args:
            shard_lengths: samples of each shard, in stored order.
            source: name; sources with equal lengths get orders of their own.
            window: samples shuffled together; 0 keeps the stored order (of the shards, too).
        """
        self.lengths = [int(length) for length in shard_lengths]
        self.starts = [0, *accumulate(self.lengths)]
        self.source, self.seed, self.window = source, seed, window
        self._shards: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]] = {}
        self._windows: dict[tuple[int, int], np.ndarray] = {}

    def __len__(self) -> int:
        return self.starts[-1]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_shards": {}, "_windows": {}}

    def runs(self, position: int, count: int) -> Iterator[tuple[int, list[int]]]:
        """Epoch and samples (numbers in stored order) of `count` positions, in as many runs as they lie in windows.

        Positions go on for ever, epoch after epoch.
        """
        while count:
            epoch, place = divmod(position, len(self))
            number, inside = divmod(place, self.window or len(self))
            size = min(self.window or len(self), len(self) - place + inside)
            taken = min(count, size - inside)
            if self.window:
                shuffled = _remember(self._windows, (epoch, number), self._window, size)
                places = shuffled[inside : inside + taken]
                ends, shifts = _remember(self._shards, (epoch,), self._shard_order)
                yield epoch, (places + shifts[np.searchsorted(ends, places, side="right")]).tolist()
            else:
                yield epoch, list(range(place, place + taken))
            position, count = position + taken, count - taken

    def locate(self, position: int) -> tuple[int, int]:
        """(epoch, sample) at `position`."""
        epoch, (sample,) = next(self.runs(position, 1))
        return epoch, sample

    def _window(self, epoch: int, number: int, size: int) -> np.ndarray:
        """Places, counted over the shards in the epoch's order, at the positions of a window."""
        return number * self.window + permutation(size, self.seed, self.source, epoch, number)

    def _shard_order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Where each shard ends in the epoch's order, and what leads from there to the stored order."""
        order = permutation(len(self.lengths), self.seed, self.source, epoch, "shards")
        lengths = np.array(self.lengths)[order]
        ends = np.cumsum(lengths)
        return ends, np.array(self.starts)[order] - (ends - lengths)


def _remember(cache: dict[Any, Any], key: tuple[int, ...], make: Callable[..., Any], *more: int) -> Any:
    """The cached value, made of the key; two are kept, as a reader crosses one border at a time."""
    value = cache.get(key)
    if value is None:
        if len(cache) >= 2:
            del cache[next(iter(cache))]
        value = cache[key] = make(*key, *more)
    return value
