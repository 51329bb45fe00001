"""How sure a mean over queries and seeds is: percentile bootstrap (Efron and Tibshirani 1993, ch. 13), or paired."""

# S seeds, Q queries, B resamples

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
BLOCK_NUMBERS = 2**20
"""Counts drawn at once: 8 MiB, and as much again as shares."""
KEPT_NUMBERS = 2**27
"""Most counts of a drawing that are kept for the next metric of the same queries, a byte each."""
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
    means = (_means(values, SEED) * _shares(len(values), SEED + 1)).sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def paired(ours: Values, theirs: Values, level: float = LEVEL) -> Interval:
    """Interval of the difference ours - theirs on the same queries; a resample draws the same queries for both.

    Args:
        ours, theirs: [S, Q] and [S', Q]; seeds are drawn apart, as the seeds of two models have nothing in common.
    """
    together = _means(np.concatenate([ours, theirs]), SEED)  # [B, S + S']
    draws = [
        (means * _shares(means.shape[1], SEED + number)).sum(1)
        for number, means in ((1, together[:, : len(ours)]), (2, together[:, len(ours) :]))
    ]
    low, high = np.quantile(draws[0] - draws[1], [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(ours.mean() - theirs.mean()), float(low), float(high))


def drawn(generator: np.random.Generator, count: int, resamples: int) -> Iterator[NDArray[np.int64]]:
    """How often each of `count` entries is drawn in each resample, in blocks [b, count] whose b add up to `resamples`.

    The blocks one below the other are what a single call gives: the generator's numbers are taken in the same order.
    """
    at_once = max(1, BLOCK_NUMBERS // count)
    for start in range(0, resamples, at_once):
        yield generator.multinomial(count, np.full(count, 1 / count), size=min(at_once, resamples - start))


def _means(values: Values, seed: int) -> NDArray[np.float64]:
    """[B, S] mean of each row of values [S, Q] over the queries of each resample."""
    count = values.shape[1]
    return np.concatenate([(block / count) @ values.T for block in _query_counts(count, seed)])


def _shares(count: int, seed: int) -> NDArray[np.float64]:
    """[B, count] share of each seed in each resample; rows sum to 1."""
    return np.concatenate(list(drawn(np.random.default_rng(seed), count, RESAMPLES))) / count


def _query_counts(count: int, seed: int) -> Iterator[NDArray[np.integer]]:
    if count * RESAMPLES > KEPT_NUMBERS:
        yield from drawn(np.random.default_rng(seed), count, RESAMPLES)
        return
    kept, at_once = _kept_counts(count, seed, RESAMPLES), max(1, BLOCK_NUMBERS // count)
    for start in range(0, RESAMPLES, at_once):
        yield kept[start : start + at_once]


@lru_cache(maxsize=4)
def _kept_counts(count: int, seed: int, resamples: int) -> NDArray[np.uint8]:
    """All blocks of a drawing. One entry of many comes more than 255 times in 1/256! of the resamples: never."""
    counts, row = np.empty((resamples, count), np.uint8), 0
    for block in drawn(np.random.default_rng(seed), count, resamples):
        counts[row : row + len(block)] = block
        row += len(block)
    return counts
