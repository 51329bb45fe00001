"""How sure a mean over queries and seeds is: percentile bootstrap (Efron and Tibshirani 1993, ch. 13), or paired."""

# S seeds, Q queries, B resamples

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
BLOCK = 100
LEVEL = 0.95
SEED = 0

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean with its bounds."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """A difference that is not explained by which queries were asked and which seeds were drawn."""
        return self.low > 0 or self.high < 0


def interval(values: Values, level: float = LEVEL) -> Interval:
    """Bootstrap over queries and, with several, over seeds: both are drawn with replacement, independently.

    Args:
        values: [S, Q] of a metric, one row for each seed, the same queries in all. Q >= 1.
        level: share of the resamples that lie between the bounds.
    Returns:
        the mean of all values and the bounds; the same on every call.
    """
    seeds, queries = values.shape
    by_seed = _weights(queries, SEED) @ values.T  # [B, S]
    means = (by_seed * _weights(seeds, SEED + 1)).sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def paired(ours: Values, theirs: Values, level: float = LEVEL) -> Interval:
    """Interval of the difference ours - theirs on the same queries; a resample draws the same queries for both.

    Args:
        ours, theirs: [S, Q] and [S', Q]; seeds are drawn apart, as the seeds of two models have nothing in common.
    """
    queries = _weights(ours.shape[1], SEED)
    draws = [
        (queries @ values.T * _weights(len(values), SEED + number)).sum(1)
        for number, values in ((1, ours), (2, theirs))
    ]
    low, high = np.quantile(draws[0] - draws[1], [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(ours.mean() - theirs.mean()), float(low), float(high))


@lru_cache(maxsize=4)
def _weights(count: int, seed: int) -> NDArray[np.float32]:
    """[B, count] share of each entry in each resample; rows sum to 1."""
    generator = np.random.default_rng(seed)
    shares = np.empty((RESAMPLES, count), np.float32)
    for start in range(0, RESAMPLES, BLOCK):  # drawn counts are int64: all at once they take gigabytes
        block = shares[start : start + BLOCK]
        block[:] = generator.multinomial(count, np.full(count, 1 / count), size=len(block)) / count
    return shares
