"""p-values against closed forms."""

import tracemalloc

import numpy as np
import pytest

from mmret.evaluation import interval
from mmret.evaluation.statistics import against_best, holm, paired_p


def rows(*values):
    return np.array(values, dtype=np.float64)


def test_the_p_value_is_twice_the_share_of_resamples_beyond_zero():
    # Differences 3 and -1: two drawn give (3, 3), (-1, -1) and twice the mix: one of four means is not above 0.
    assert paired_p(rows([3, 0]), rows([0, 1])) == pytest.approx(0.5, abs=0.03)
    assert paired_p(rows([1, 0]), rows([0, 1])) == 1.0


def test_seeds_are_drawn_too():
    # One query; our two seeds give 2 and -1 against 0: a mean of -1 has a quarter of the draws.
    assert paired_p(rows([2], [-1]), rows([0])) == pytest.approx(0.5, abs=0.03)


def test_the_same_queries_are_drawn_for_both():
    noise = np.random.default_rng(0).normal(size=(1, 200)) * 100
    assert paired_p(noise + 0.1, noise) == pytest.approx(2 / 10_001)  # certain, whatever the spread over queries


def test_the_p_value_of_many_queries_is_that_of_the_normal_distribution():
    from scipy.stats import norm

    difference = np.random.default_rng(1).normal(0.12, 1, size=(1, 400))
    z = difference.mean() / (difference.std() / 20)
    assert paired_p(difference, np.zeros((1, 400))) == pytest.approx(2 * norm.sf(abs(z)), abs=0.01)


def test_it_is_the_same_on_every_call_and_from_both_sides():
    a, b = np.random.default_rng(2).random((2, 3, 50))
    assert paired_p(a, b) == paired_p(a, b)
    assert paired_p(a, b) == pytest.approx(paired_p(b, a), abs=0.03)


def drawn_at_once(ours, theirs, resamples):
    """The p-value by arrays [resamples, Q]."""
    generator, count = np.random.default_rng(0), ours.shape[1]
    queries = generator.multinomial(count, np.full(count, 1 / count), size=resamples) / count
    means = []
    for values in (ours, theirs):
        seeds = generator.multinomial(len(values), np.full(len(values), 1 / len(values)), size=resamples) / len(values)
        means.append((queries @ values.T * seeds).sum(1))
    differences = means[0] - means[1]
    tail = min((differences <= 1e-12).sum(), (differences >= -1e-12).sum())
    return min(1.0, 2 * (tail + 1) / (resamples + 1))


@pytest.mark.parametrize("numbers", [1, 1000, 7919])  # one resample a block, several, a block that is not full
def test_drawn_in_blocks_it_is_the_same_number(monkeypatch, numbers):
    monkeypatch.setattr(interval, "BLOCK_NUMBERS", numbers)
    generator = np.random.default_rng(3)
    ours, theirs = generator.random((2, 130)) < 0.6, generator.random((3, 130)) < 0.5
    expected = drawn_at_once(ours, theirs, 500)
    assert 0.001 < expected < 0.9
    assert paired_p(ours.astype(float), theirs.astype(float), 500) == expected


def test_many_queries_take_no_more_memory_than_a_block():
    ours, theirs = np.random.default_rng(4).random((2, 1, 30_000))
    tracemalloc.start()
    try:
        paired_p(ours, theirs, resamples=300)
        assert tracemalloc.get_traced_memory()[1] < 30e6  # at once: 72 MB of counts and 72 MB of shares
    finally:
        tracemalloc.stop()


def test_holm_multiplies_the_smallest_most_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_all_are_tested_against_the_highest_mean_and_corrected_for_their_number():
    best, worst = np.ones((1, 40)), np.zeros((1, 40))
    near = best.copy()
    near[0, 0] = 0
    found = against_best({"worst": worst, "best": best, "near": near})
    assert found["best"].best and found["best"].p_holm is None and not found["best"].differs
    assert found["worst"].differs and found["worst"].p_holm == pytest.approx(2 * found["worst"].p)
    assert not found["near"].differs
