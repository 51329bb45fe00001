import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmret.data import SampleOrder
from mmret.data.dice import Dice, permutation

GOLDEN_ORDER = [8, 3, 1, 2, 7, 0, 6, 5, 10, 9, 11, 4]
GOLDEN_PERMUTATION = [6, 4, 1, 3, 7, 5, 2, 0]
GOLDEN_DICE = [755, 175, 494, 785, 681, 439, 362, 715, 455, 946]

lengths = st.lists(st.integers(1, 30), min_size=1, max_size=6)


@given(lengths, st.integers(0, 3), st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_each_epoch_has_each_sample_once(lengths, seed, window):
    order = SampleOrder(lengths, "source", seed, window)
    size = sum(lengths)
    for epoch in range(3):
        places = [order.locate(epoch * size + r) for r in range(size)]
        assert {e for e, _ in places} == {epoch}
        assert sorted(index for _, index in places) == list(range(size))


@given(lengths, st.integers(1, 40), st.lists(st.integers(0, 500), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_a_position_means_the_same_whatever_was_asked_before(lengths, window, positions):
    used = SampleOrder(lengths, "source", 0, window)
    for position in positions:
        fresh = pickle.loads(pickle.dumps(used))
        assert used.locate(position) == fresh.locate(position)


@given(lengths, st.integers(0, 40), st.integers(0, 200), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_runs_are_their_positions_one_by_one_over_windows_and_epochs(lengths, window, first, count):
    order = SampleOrder(lengths, "source", 3, window)
    found = [(epoch, sample) for epoch, samples in order.runs(first, count) for sample in samples]
    assert found == [order.locate(position) for position in range(first, first + count)]


def test_a_window_holds_consecutive_samples_of_the_shuffled_shards():
    order = SampleOrder([10] * 20, "source", 1, 25)
    places = [order.locate(r)[1] for r in range(200)]
    for first in range(0, 200, 25):
        # 25 consecutive samples of whole shards in some order lie in at most 4 shards of 10.
        assert len({index // 10 for index in places[first : first + 25]}) <= 4
    assert places != sorted(places)
    shards = [index // 10 for index in places]
    assert list(dict.fromkeys(shards)) != sorted(set(shards))


def test_epochs_seeds_and_sources_have_orders_of_their_own():
    def first(seed, source, epoch):
        order = SampleOrder([50, 50], source, seed, 100)
        return tuple(order.locate(epoch * 100 + r)[1] for r in range(100))

    orders = {first(0, "a", 0), first(0, "a", 1), first(1, "a", 0), first(0, "b", 0)}
    assert len(orders) == 4


def test_window_zero_keeps_the_stored_order():
    order = SampleOrder([3, 4], "source", 0, 0)
    assert [order.locate(r) for r in range(9)] == [(0, i) for i in range(7)] + [(1, 0), (1, 1)]


def test_the_order_is_the_same_in_every_version():
    # Made once by this code: a change here would make every saved run go on with other data.
    order = SampleOrder([4, 3, 5], "source", 7, 6)
    assert [order.locate(r)[1] for r in range(12)] == GOLDEN_ORDER
    assert permutation(8, "a", 1).tolist() == GOLDEN_PERMUTATION
    dice = Dice("a", 1)
    assert [dice.below(1000) for _ in range(10)] == GOLDEN_DICE


def test_a_far_position_costs_no_walk():
    order = SampleOrder([10_000] * 1000, "source", 0, 4096)
    epoch, index = order.locate(10**12 + 12345)
    assert epoch == 10**5 and 0 <= index < 10**7


@given(st.integers(1, 50), st.data())
@settings(max_examples=40, deadline=None)
def test_a_draw_without_replacement_repeats_nothing(size, data):
    count = data.draw(st.integers(0, size))
    drawn = Dice(size, count).sample(size, count)
    assert len(set(drawn)) == len(drawn) == count and all(0 <= x < size for x in drawn)


def test_draws_are_even():
    counts = np.zeros((5, 5), int)
    for key in range(4000):
        first, second = Dice("even", key).sample(5, 2)
        counts[first, second] += 1
    assert counts.diagonal().sum() == 0
    # 20 ordered pairs, 200 expected each, standard deviation 14.
    assert abs(counts[~np.eye(5, dtype=bool)] - 200).max() < 70


@pytest.mark.parametrize("other", [("ab", "c"), ("a", "bc", ""), ("a", "bc", 0)])
def test_keys_do_not_run_together(other):
    assert Dice("a", "bc").below(2**60) != Dice(*other).below(2**60)
