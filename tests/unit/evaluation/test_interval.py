import numpy as np
import pytest

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
