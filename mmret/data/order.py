"""The order of one source's samples: position r -> (epoch, sample), each sample once per epoch, for any r at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
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
        self._shards: dict[int, tuple[list[int], list[int]]] = {}
        self._windows: dict[tuple[int, int], np.ndarray] = {}

    def __len__(self) -> int:
        return self.starts[-1]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_shards": {}, "_windows": {}}

    def locate(self, position: int) -> tuple[int, int]:
        """(epoch, number of the sample in stored order) at `position`; positions go on for ever, epoch after epoch."""
        epoch, place = divmod(position, len(self))
        if self.window == 0:
            return epoch, place
        number, inside = divmod(place, self.window)
        first = number * self.window
        shuffled = _remember(self._windows, (epoch, number), lambda: self._window(epoch, number))
        place = first + int(shuffled[inside])
        order, ends = _remember(self._shards, epoch, lambda: self._shard_order(epoch))
        nth = bisect_right(ends, place)
        shard = order[nth]
        return epoch, self.starts[shard] + place - (ends[nth] - self.lengths[shard])

    def _window(self, epoch: int, number: int) -> np.ndarray:
        size = min(self.window, len(self) - number * self.window)
        return permutation(size, self.seed, self.source, epoch, number).astype(np.uint32)

    def _shard_order(self, epoch: int) -> tuple[list[int], list[int]]:
        order = permutation(len(self.lengths), self.seed, self.source, epoch, "shards").tolist()
        return order, list(accumulate(self.lengths[shard] for shard in order))


def _remember(cache: dict[Any, Any], key: Any, make: Callable[[], Any]) -> Any:
    """The cached value; two are kept, as a reader crosses one border at a time."""
    value = cache.get(key)
    if value is None:
        if len(cache) >= 2:
            del cache[next(iter(cache))]
        value = cache[key] = make()
    return value
