from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmret.data import Plan
from mmret.errors import ConfigError
from mmret.recipe.schema import MixtureConfig, SourceConfig


def mixture(weights, **fields):
    sources = {name: w if isinstance(w, SourceConfig) else SourceConfig(w) for name, w in weights.items()}
    return MixtureConfig(**({"sources": sources, "batch_size": 8} | fields))


configurations = st.fixed_dictionaries(
    {
        "weights": st.dictionaries(st.sampled_from("abcd"), st.sampled_from([0.1, 0.3, 0.5, 1, 2]), min_size=1),
        "lengths": st.lists(st.lists(st.integers(1, 20), min_size=1, max_size=4), min_size=4, max_size=4),
        "batch_size": st.sampled_from([4, 8, 16]),
        "divisor": st.sampled_from([1, 2, 4, None]),
        "window": st.sampled_from([0, 1, 5, 64]),
        "seed": st.integers(0, 5),
    }
)


def plan_of(c, accumulate=1):
    block = None if c["divisor"] is None else c["batch_size"] // c["divisor"]
    m = mixture(c["weights"], batch_size=c["batch_size"], block_size=block, shuffle_window=c["window"])
    return Plan(m, dict(zip("abcd", c["lengths"])), c["seed"], accumulate)


@given(configurations)
@settings(max_examples=40, deadline=None)
def test_each_source_gives_each_sample_once_an_epoch(c):
    plan = plan_of(c)
    seen = Counter()
    epochs = Counter()
    for batch in range(60):
        for row in plan.rows(batch):
            size = len(plan.orders[row.source])
            assert row.epoch == row.position // size and 0 <= row.index < size
            seen[row] += 1
            epochs[row.source, row.epoch, row.index] += 1
    assert set(epochs.values()) == {1} and set(seen.values()) == {1}
    for source in plan.orders:
        read = sum(count for (name, _, _), count in epochs.items() if name == source)
        # The positions of a source are 0, 1, 2, ... without a hole.
        assert {row.position for row in seen if row.source == source} == set(range(read))


@given(configurations, st.sampled_from([1, 2, 4]))
@settings(max_examples=30, deadline=None)
def test_ranks_and_accumulation_only_cut_the_same_rows(c, accumulate):
    whole, cut = plan_of(c), plan_of(c, accumulate)
    for batch in (0, 1, 17, 1000):
        rows = whole.rows(batch)
        parts = [row for a in range(accumulate) for row in cut.rows(batch * accumulate + a)]
        assert parts == rows
        for world in (1, 2, 4):
            assert [row for rank in range(world) for row in whole.rows(batch, rank, world)] == rows


@given(configurations)
@settings(max_examples=30, deadline=None)
def test_the_rows_of_a_block_share_a_source(c):
    plan = plan_of(c)
    for batch in range(5):
        rows = plan.rows(batch)
        for first in range(0, len(rows), plan.block):
            assert len({row.source for row in rows[first : first + plan.block]}) == 1


def test_two_seeds_give_two_plans():
    c = {"weights": {"a": 1}, "lengths": [[20]] * 4, "batch_size": 16, "divisor": 1, "window": 64}
    assert plan_of(c | {"seed": 0}).rows(0) != plan_of(c | {"seed": 1}).rows(0)


def test_a_replacement_is_the_same_source_and_never_in_the_same_batch():
    plan = Plan(mixture({"a": 1, "b": 1}, block_size=2), {"a": [100], "b": [100]}, 0)
    for batch in range(5):
        rows = plan.rows(batch)
        positions = {(row.source, row.position) for row in rows}
        for row in rows:
            tries = [plan.replacement(row, attempt) for attempt in (1, 2, 3)]
            assert all(r.source == row.source and (r.source, r.position) not in positions for r in tries)
            assert len({r.index for r in tries}) == 3


def test_a_cap_keeps_the_first_samples_only():
    plan = Plan(mixture({"a": SourceConfig(1, max_samples=7)}), {"a": [5, 5, 5]}, 0)
    assert sorted({row.index for batch in range(7) for row in plan.rows(batch)}) == list(range(7))
    assert len(plan.orders["a"]) == 7


@pytest.mark.parametrize(
    "fields, accumulate, message",
    [
        ({"block_size": 3}, 1, "blocks of 3 rows do not fill a batch of 8"),
        ({}, 3, "8 rows do not divide into 3 accumulation steps"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(fields, accumulate, message):
    with pytest.raises(ConfigError, match=message):
        Plan(mixture({"a": 1}, **fields), {"a": [5]}, 0, accumulate)


def test_rows_that_do_not_divide_over_the_ranks_say_what_would():
    plan = Plan(mixture({"a": 1}), {"a": [50]}, 0, accumulate=2)
    with pytest.raises(ConfigError, match=r"8 rows do not divide over 3 ranks x 2 accumulation steps; .*multiple of 6"):
        plan.rows(0, 0, 3)
