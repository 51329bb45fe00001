import tracemalloc

import numpy as np
import pytest

from mmret.evaluation import interval as module
from mmret.evaluation.interval import interval, paired


def test_bounds_are_those_of_a_binomial_where_there_is_one_seed():
    values = np.array([[1.0] * 300 + [0.0] * 100])
    found = interval(values)
    spread = 1.96 * (0.75 * 0.25 / 400) ** 0.5
    assert found.mean == 0.75
    assert found.low == pytest.approx(0.75 - spread, abs=0.008) and found.high == pytest.approx(
        0.75 + spread, abs=0.008
    )
    assert found == interval(values)


def test_seeds_that_differ_widen_it():
    one = np.array([[1.0, 0.0] * 200])
    apart = np.array([[1.0] * 400, [0.0] * 400])
    assert interval(apart).high - interval(apart).low > 0.9 > interval(one).high - interval(one).low


def test_a_paired_difference_is_surer_than_two_intervals():
    generator = np.random.default_rng(0)
    hard = (generator.random(400) < 0.5).astype(float)
    theirs, ours = hard[None], np.maximum(hard, generator.random(400) < 0.1)[None]
    found = paired(ours, theirs)
    assert found.excludes_zero and found.mean == pytest.approx(ours.mean() - theirs.mean())
    assert interval(ours).low < interval(theirs).high
    assert not paired(ours, ours).excludes_zero


def drawn_at_once(count, seed):
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=module.RESAMPLES) / count


@pytest.mark.parametrize("kept", [0, 2**27])
def test_drawn_in_blocks_kept_or_not_the_bounds_are_the_same(monkeypatch, kept):
    monkeypatch.setattr(module, "BLOCK_NUMBERS", 1000)
    monkeypatch.setattr(module, "KEPT_NUMBERS", kept)
    ours, theirs = np.random.default_rng(1).random((2, 3, 130))
    queries = drawn_at_once(130, module.SEED)
    means = [(queries @ v.T * drawn_at_once(3, module.SEED + n)).sum(1) for n, v in ((1, ours), (2, theirs))]
    one, difference = interval(ours), paired(ours, theirs)
    assert (one.low, one.high) == pytest.approx(np.quantile(means[0], [0.025, 0.975]), abs=1e-12)
    expected = np.quantile(means[0] - means[1], [0.025, 0.975])
    assert (difference.low, difference.high) == pytest.approx(expected, abs=1e-12)


def test_many_queries_take_a_byte_for_each_draw_and_beyond_a_bound_a_block(monkeypatch):
    monkeypatch.setattr(module, "RESAMPLES", 300)
    values = np.random.default_rng(2).random((1, 30_000))
    for kept, most in ((2**27, 36e6), (0, 27e6)):  # 9 MB kept, or not; in shares of 8 bytes 72 MB
        monkeypatch.setattr(module, "KEPT_NUMBERS", kept)
        tracemalloc.start()
        try:
            interval(values)
            assert tracemalloc.get_traced_memory()[1] < most
        finally:
            tracemalloc.stop()
