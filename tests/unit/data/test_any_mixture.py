"""Claims about the order of training data over random mixtures, sizes, ranks, workers and stops; no file is read."""

from collections import Counter
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from mmret.data import Plan
from mmret.recipe.schema import MixtureConfig, SourceConfig

quick = settings(max_examples=40, deadline=None, derandomize=True)
NAMES = "abcde"
BATCHES = 40

sources = st.fixed_dictionaries(
    {
        "weight": st.integers(1, 60).map(lambda twentieths: twentieths / 20),
        "shards": st.lists(st.integers(1, 30), min_size=1, max_size=5),
        "cap": st.one_of(st.none(), st.integers(1, 40)),
    }
)
mixtures = st.fixed_dictionaries(
    {
        "sources": st.lists(sources, min_size=1, max_size=5),
        "batch_size": st.sampled_from([4, 8, 24]),
        "blocks": st.sampled_from([None, 1, 2, 4]),
        "window": st.sampled_from([0, 1, 3, 16, 4096]),
        "seed": st.integers(0, 2**31),
    }
)
ways = st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([0, 1, 3, 8]), st.sampled_from([1, 2]))
"""Ranks, data workers of each, accumulation steps; with the sizes above each divides."""


def plan_of(m, accumulate=1):
    config = MixtureConfig(
        sources={name: SourceConfig(s["weight"], s["cap"]) for name, s in zip(NAMES, m["sources"])},
        batch_size=m["batch_size"],
        block_size=None if m["blocks"] is None else m["batch_size"] // m["blocks"],
        shuffle_window=m["window"],
    )
    return Plan(config, {name: s["shards"] for name, s in zip(NAMES, m["sources"])}, m["seed"], accumulate)


def trained_on(m, way, start, stop):
    """Rows of the optimizer steps [start, stop), as ranks and workers of a fresh start load them: each process has a
    plan of its own and asks for its batches alone."""
    world, workers, accumulate = way if m["batch_size"] % (way[0] * way[2]) == 0 else (1, way[1], 1)
    first, last = start * accumulate, stop * accumulate
    loaded = {}
    for rank in range(world):
        for worker in range(max(workers, 1)):
            plan = plan_of(m, accumulate)
            for batch in range(first + worker, last, max(workers, 1)):
                loaded[batch, rank] = plan.rows(batch, rank, world)
    return [
        [row for part in range(accumulate) for rank in range(world) for row in loaded[step * accumulate + part, rank]]
        for step in range(start, stop)
    ]


@given(mixtures, ways)
@quick
def test_ranks_workers_and_accumulation_change_no_batch(m, way):
    assert trained_on(m, way, 0, 12) == trained_on(m, (1, 0, 1), 0, 12)


@given(mixtures, st.lists(st.tuples(ways, st.integers(0, 9)), min_size=1, max_size=4))
@quick
def test_a_run_stopped_anywhere_goes_on_with_the_next_batch_also_on_other_ranks(m, parts):
    gone_on, step = [], 0
    for way, steps in parts:
        gone_on += trained_on(m, way, step, step + steps)
        step += steps
    assert gone_on == trained_on(m, (1, 0, 1), 0, step)


@given(mixtures)
@quick
def test_each_sample_comes_once_an_epoch_of_its_source_and_none_beyond_its_cap(m):
    rows = [row for step in trained_on(m, (2, 3, 1), 0, BATCHES) for row in step]
    for name, s in zip(NAMES, m["sources"]):
        size = min(sum(s["shards"]), s["cap"] or sum(s["shards"]))
        own = [row for row in rows if row.source == name]
        epochs = Counter(row.epoch for row in own)
        assert len({(row.epoch, row.index) for row in own}) == len(own)
        assert {row.index for row in own} <= set(range(size))
        # All epochs but the last are whole.
        assert [epochs[e] for e in sorted(epochs)][:-1] == [size] * (len(epochs) - 1)


@given(mixtures)
@quick
def test_after_any_number_of_blocks_each_share_is_within_one_block(m):
    plan = plan_of(m)
    total, seen = sum(plan.mixture.units), Counter()
    for number in range(200):
        source, before = plan.mixture.block(number)
        assert before == seen[source]
        seen[source] += 1
        for name, units in zip(plan.mixture.sources, plan.mixture.units):
            assert abs(seen[name] - Fraction(units, total) * (number + 1)) < 1
    asked = sum(Fraction(str(s["weight"])) for s in m["sources"])
    for name, s in zip(NAMES, m["sources"]):
        assert plan.mixture.shares[name] == Fraction(str(s["weight"])) / asked


@given(mixtures)
@quick
def test_the_rows_of_a_block_share_a_source(m):
    plan = plan_of(m)
    for rows in trained_on(m, (1, 0, 1), 0, 6):
        for first in range(0, len(rows), plan.block):
            assert len({row.source for row in rows[first : first + plan.block]}) == 1
