"""Randomness by name: every permutation and draw is a function of what it is for, not of what was drawn before."""

from __future__ import annotations

from hashlib import blake2b
from struct import unpack

import numpy as np


def permutation(size: int, *key: object) -> np.ndarray:
    """Order of `size` things, int64, fixed by `key`.

    Sorts Philox's raw words rather than calling `Generator.permutation`: numpy keeps the former the same in all its
    versions, the latter not.
    """
    words = np.random.Philox(key=int.from_bytes(_digest(*key)[:16], "big")).random_raw(size)
    return np.argsort(words, kind="stable")


class Dice:
    """A short stream of integers fixed by `key`; far cheaper to start than a numpy generator."""

    def __init__(self, *key: object) -> None:
        self._key, self._block, self._words = key, -1, ()
        self._at = 0

    def below(self, limit: int) -> int:
        """An integer in [0, limit); the bias is below limit / 2^64."""
        block, place = divmod(self._at, 8)
        self._at += 1
        if limit == 1:  # nothing to draw: no digest
            return 0
        if block != self._block:
            self._words, self._block = unpack("<8Q", _digest(*self._key, block)), block
        return self._words[place] % limit

    def between(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self.below(2**53) / 2**53

    def sample(self, size: int, count: int) -> list[int]:
        """`count` different integers in [0, size), in random order (Fisher-Yates, only the part that is needed)."""
        moved: dict[int, int] = {}
        drawn = []
        for first in range(count):
            other = first + self.below(size - first)
            drawn.append(moved.get(other, other))
            moved[other] = moved.get(first, first)
        return drawn


def _digest(*key: object) -> bytes:
    return blake2b("\0".join(map(str, key)).encode()).digest()
