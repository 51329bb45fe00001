"""Which variants differ from the best: a paired bootstrap over queries and seeds, and Holm's correction."""

# S seeds, Q queries, B resamples

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmret.evaluation.interval import Values, drawn

RESAMPLES = 10_000
LEVEL = 0.05
SEED = 0


@dataclass(frozen=True)
class Against:
    """A variant against the best of them."""

    best: bool
    p: float | None
    """Two-sided; None: it is the best itself."""
    p_holm: float | None
    """Corrected for the number of variants that are compared with the best."""
    differs: bool
    """p_holm is below 0.05."""


def against_best(values: Mapping[str, Values]) -> dict[str, Against]:
    """Each variant against the one with the highest mean.

    The best is chosen by the same values, so the test is a little too ready to tell a close second apart from it.

    Args:
        values: [S, Q] of each variant, the same queries in the same order; numbers of seeds may differ.
    """
    best = max(values, key=lambda name: float(values[name].mean()), default=None)
    others = [name for name in values if name != best]
    raw = {name: paired_p(values[best], values[name]) for name in others} if best is not None else {}
    corrected = dict(zip(others, holm([raw[name] for name in others])))
    found = {name: Against(False, raw[name], corrected[name], corrected[name] < LEVEL) for name in others}
    return {name: found.get(name, Against(True, None, None, False)) for name in values}


def paired_p(ours: Values, theirs: Values, resamples: int = RESAMPLES, seed: int = SEED) -> float:
    """Two-sided p-value of no difference: twice the share of bootstrapped differences on the other side of 0.

    Queries are drawn with replacement, the same for both; seeds too, for each apart (with one seed, only queries). The
    observed sample counts as one more resample, so p is never 0 (Davison and Hinkley 1997, Sec. 4.2.5). With few
    seeds the spread over seeds is underestimated: read a p near the level with care.

    Args:
        ours, theirs: [S, Q] and [S', Q] of a metric.
    """
    generator = np.random.default_rng(seed)
    count, both = ours.shape[1], np.concatenate([ours, theirs])
    together = np.concatenate([(block / count) @ both.T for block in drawn(generator, count, resamples)])  # [B, S + S']
    means = []
    for of_one in (together[:, : len(ours)], together[:, len(ours) :]):
        seeds = np.concatenate(list(drawn(generator, of_one.shape[1], resamples))) / of_one.shape[1]
        means.append((of_one * seeds).sum(1))
    differences = means[0] - means[1]
    # A difference of 0 up to rounding lies on both sides.
    tail = min(int((differences <= 1e-12).sum()), int((differences >= -1e-12).sum()))
    return min(1.0, 2 * (tail + 1) / (resamples + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrected p-values (Holm 1979): the k-th smallest of m, times m - k + 1, none below one before it."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, least = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = least
    return corrected
