"""Which source a block of rows comes from: weights -> source of block j, and how many blocks it had before, in O(1)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from fractions import Fraction
from heapq import heappop, heappush
from math import lcm

import numpy as np

from mmret.data.dice import permutation
from mmret.errors import ConfigError

logger = logging.getLogger(__name__)

MAX_PERIOD = 65_536


class Mixture:
    """A periodic schedule in which no source is ever a whole block ahead of, or behind, its share.

    Shares are exact (0.1 is a tenth) where their common denominator is at most 65,536, else rounded to 1/65,536.
    Unit k = 1, 2, ... of a source with share p may be served in the blocks [floor((k-1)/p), ceil(k/p) - 1]. Serving
    the earliest deadline first meets all of them, as the shares add up to 1 (Baruah et al. 1996, "Proportionate
    progress"; for one resource: Tijdeman 1980), hence |count(n) - p n| < 1 after any number n of blocks.
    """

    def __init__(self, weights: Mapping[str, float], seed: int):
        """Schedule of a mixture.

        Args:
            weights: source -> weight, relative; 0 leaves the source out.
            seed: orders the sources where deadlines are equal.
        Raises:
            ConfigError: a weight is negative or not finite, or none is above 0.
        """
        for source, weight in weights.items():
            if not 0 <= weight < float("inf"):
                raise ConfigError(
                    f"data.sources.{source}: the weight is {weight}; want a number >= 0 (0 leaves it out)"
                )
        exact = {source: Fraction(str(weight)) for source, weight in weights.items() if weight > 0}
        if not exact:
            raise ConfigError(f"data.sources: no source has a weight above 0 (of {', '.join(weights) or 'none'})")
        total = sum(exact.values())
        shares = {source: weight / total for source, weight in exact.items()}
        self.sources: tuple[str, ...] = tuple(shares)
        self.units: tuple[int, ...] = _units(shares)
        self.period = sum(self.units)
        self.shares: dict[str, Fraction] = {s: Fraction(n, self.period) for s, n in zip(self.sources, self.units)}
        if self.shares != shares:
            logger.info("mixture: shares rounded to multiples of 1/%d: %s", MAX_PERIOD, _shown(shares, self.shares))
        self._source, self._rank = _schedule(self.units, seed)

    def block(self, number: int) -> tuple[str, int]:
        """(source of block `number`, blocks of that source before it)."""
        turn, slot = divmod(number, self.period)
        source = int(self._source[slot])
        return self.sources[source], turn * self.units[source] + int(self._rank[slot])


def _units(shares: Mapping[str, Fraction]) -> tuple[int, ...]:
    """Blocks of each source in one period."""
    period = lcm(*(share.denominator for share in shares.values()))
    if period <= MAX_PERIOD:
        return tuple(int(share * period) for share in shares.values())
    # Largest remainder; a source that was asked for keeps at least one block.
    wanted = [share * MAX_PERIOD for share in shares.values()]
    units = [max(int(want), 1) for want in wanted]
    while sum(units) != MAX_PERIOD:
        step = 1 if sum(units) < MAX_PERIOD else -1
        best = max(range(len(units)), key=lambda i: (units[i] + step > 0, step * (wanted[i] - units[i])))
        units[best] += step
    return tuple(units)


def _schedule(units: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Source of each slot of a period, and how many slots before it are the same source's."""
    period = sum(units)
    ties = permutation(period, seed, "mixture").tolist()
    starts = np.cumsum([0, *units]).tolist()
    waiting: list[list[tuple[int, int, int, int]]] = [[] for _ in range(period)]
    for source, count in enumerate(units):
        for unit in range(count):
            deadline = -(-(unit + 1) * period // count) - 1
            waiting[unit * period // count].append((deadline, ties[starts[source] + unit], source, unit))
    ready: list[tuple[int, int, int, int]] = []
    source_of, rank = np.empty(period, np.int32), np.empty(period, np.int32)
    for slot in range(period):
        for unit in waiting[slot]:
            heappush(ready, unit)
        deadline, _, source, number = heappop(ready)
        assert deadline >= slot, "earliest deadline first meets every deadline when the shares add up to 1"
        source_of[slot], rank[slot] = source, number
    return source_of, rank


def _shown(asked: Mapping[str, Fraction], given: Mapping[str, Fraction]) -> str:
    return ", ".join(f"{source} {float(asked[source]):.6f} -> {float(given[source]):.6f}" for source in asked)
