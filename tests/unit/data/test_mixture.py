from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmret.data import Mixture
from mmret.data.mixture import _units
from mmret.errors import ConfigError

weights = st.lists(st.sampled_from([0.05, 0.1, 0.2, 0.25, 0.3, 0.5, 0.7, 1, 2, 3.5, 10, 0]), min_size=1, max_size=8)


def named(values):
    return {f"s{i}": value for i, value in enumerate(values)}


@given(weights.filter(any), st.integers(0, 3))
@settings(max_examples=80, deadline=None)
def test_no_source_is_ever_a_block_off_its_share(values, seed):
    mixture = Mixture(named(values), seed)
    total = sum(Fraction(str(value)) for value in values)
    shares = {name: Fraction(str(value)) / total for name, value in named(values).items()}
    counts = Counter()
    for number in range(2 * mixture.period + 3 if mixture.period < 300 else 600):
        source, before = mixture.block(number)
        assert before == counts[source]
        counts[source] += 1
        for name, share in shares.items():
            assert abs(counts[name] - share * (number + 1)) < 1


@given(st.lists(st.floats(1e-7, 1e7, allow_nan=False), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_shares_without_a_small_denominator_are_rounded_and_nobody_loses_all(values):
    total = sum(Fraction(str(value)) for value in values)
    shares = {name: Fraction(str(value)) / total for name, value in named(values).items()}
    units = _units(shares)
    assert sum(units) <= 65_536 and min(units) > 0
    for count, share in zip(units, shares.values()):
        # Off by less than one unit, beside what is paid for those that would round to none.
        assert abs(count - share * sum(units)) <= len(units)


def test_rounded_shares_keep_the_bound():
    mixture = Mixture({"a": 1, "b": 65_537, "c": 3333.3333333}, 0)
    assert mixture.period == 65_536
    counts = Counter()
    for number in range(3000):
        counts[mixture.block(number)[0]] += 1
        assert all(abs(counts[name] - share * (number + 1)) < 1 for name, share in mixture.shares.items())


def test_a_whole_period_and_far_blocks_by_hand():
    mixture = Mixture({"a": 0.5, "b": 0.25, "c": 0.25}, 0)
    assert mixture.period == 4 and mixture.units == (2, 1, 1)
    first = [mixture.block(number) for number in range(4)]
    far = [mixture.block(4 * 10**9 + number) for number in range(4)]
    assert sorted(source for source, _ in first) == ["a", "a", "b", "c"]
    # One a in each half: its units must be served in blocks 0-1 and 2-3.
    assert [sum(s == "a" for s, _ in half) for half in (first[:2], first[2:])] == [1, 1]
    units = {"a": 2, "b": 1, "c": 1}
    assert far == [(source, before + 10**9 * units[source]) for source, before in first]


def test_weights_are_read_as_decimals():
    # In binary 0.1 + 0.2 is no tenth of anything; as written the shares are 1/3 and 2/3.
    assert Mixture({"a": 0.1, "b": 0.2}, 0).units == (1, 2)


def test_rounding_is_reported(caplog):
    caplog.set_level("INFO", logger="mmret.data.mixture")
    Mixture({"a": 0.1, "b": 0.2}, 0)
    assert not caplog.messages
    Mixture({"a": 1, "b": 65_537}, 0)
    assert "rounded" in caplog.text


def test_a_source_with_weight_zero_is_left_out():
    assert Mixture({"a": 1, "b": 0}, 0).sources == ("a",)


def test_ties_do_not_favour_the_first_source():
    first = Counter(Mixture({"a": 1, "b": 1, "c": 1}, seed).block(0)[0] for seed in range(60))
    assert set(first) == {"a", "b", "c"}


@pytest.mark.parametrize(
    "values, message",
    [
        ({"a": -1}, "data.sources.a: the weight is -1"),
        ({"a": float("nan")}, "weight is nan"),
        ({"a": 0}, "above 0"),
        ({}, "none"),
    ],
)
def test_weights_out_of_range_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        Mixture(values, 0)
