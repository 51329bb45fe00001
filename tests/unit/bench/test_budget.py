"""Budgets to steps, and slices of a grid."""

from types import SimpleNamespace

import pytest

from mmret.bench.budget import overrides_for, steps_for
from mmret.bench.config import Budget
from mmret.bench.job import slice_of
from mmret.bench.sweep import pick, settings_of
from mmret.errors import ConfigError


def recipe(*stages):
    """(steps, batch size, warm-up) of each stage."""
    return SimpleNamespace(
        stages=[
            SimpleNamespace(
                name=f"s{number}",
                steps=steps,
                data=SimpleNamespace(batch_size=batch),
                schedule=SimpleNamespace(warmup_steps=warmup),
            )
            for number, (steps, batch, warmup) in enumerate(stages)
        ]
    )


TWO = recipe((30, 8, 10), (10, 32, 0))


@pytest.mark.parametrize(
    ("budget", "share", "costs", "steps"),
    [
        (Budget(steps=80), 1.0, [], [60, 20]),
        (Budget(steps=80), 0.5, [], [30, 10]),
        (Budget(steps=7), 1.0, [], [5, 2]),  # 5.25 and 1.75: the larger remainder gets the last one
        (Budget(samples=1120), 1.0, [], [60, 20]),  # 30 x 8 + 10 x 32 = 560, twice
        (Budget(seconds=10.0), 1.0, [0.1, 0.2], [60, 20]),  # 30 x 0.1 + 10 x 0.2 = 5
        (Budget(flops=5e9), 1.0, [1e8, 2e8], [30, 10]),
    ],
)
def test_stages_keep_their_shares_of_a_budget(budget, share, costs, steps):
    assert steps_for(budget, TWO, share, costs) == steps


def test_a_budget_in_steps_is_spent_exactly_though_a_stage_needs_at_least_one():
    assert steps_for(Budget(steps=10), recipe((1000, 8, 0), (1, 8, 0), (1, 8, 0))) == [8, 1, 1]


def test_a_budget_too_small_for_a_step_of_each_stage_is_refused():
    with pytest.raises(ConfigError, match=r"budget of 39 samples: one step of each stage \(s0, s1\) takes 40"):
        steps_for(Budget(samples=39), TWO)


def test_warm_up_shrinks_with_its_stage():
    assert overrides_for(TWO, [15, 5]) == [
        "stages[0].steps=15",
        "stages[0].schedule.warmup_steps=5",
        "stages[1].steps=5",
    ]


def test_slices_of_a_grid_part_it():
    jobs = list(range(7))
    parts = [slice_of(jobs, f"{k}/3") for k in (1, 2, 3)]
    assert sorted(job for part in parts for job in part) == jobs and slice_of(jobs, None) == jobs
    for wrong in ("0/3", "4/3", "2", "a/b"):
        with pytest.raises(ConfigError, match="want K/N"):
            slice_of(jobs, wrong)


def test_sweeps_make_a_grid_and_keep_commas_in_brackets():
    assert settings_of([]) == [{}]
    assert settings_of(["optimizer.lr=1e-4,3e-4", "optimizer.betas=[0.9,0.98],[0.9,0.999]"]) == [
        {"optimizer.lr": lr, "optimizer.betas": betas}
        for lr in ("1e-4", "3e-4")
        for betas in ("[0.9,0.98]", "[0.9,0.999]")
    ]


@pytest.mark.parametrize("wrong", ["optimizer.lr", "optimizer.lr=1e-4", "optimizer.lr=1e-4,", "lr=1,1"])
def test_a_sweep_of_another_form_is_refused(wrong):
    with pytest.raises(ConfigError, match="--sweep"):
        settings_of([wrong])


def entry(name, seed, validation, test, status="finished"):
    metrics = {"emoji/validation/recall@1": validation, "emoji/unseen_both/recall@1": test}
    return {"name": name, "sweep_of": "a", "seed": seed, "status": status, "metrics": metrics}


def test_a_sweep_picks_by_validation_whatever_the_test_set_says():
    entries = [
        entry("a+1", 0, 0.4, 0.9),
        entry("a+1", 1, 0.4, 0.9),
        entry("a+2", 0, 0.3, 0.0),
        entry("a+2", 1, 0.6, 0.0),
    ]
    chosen = pick(entries, ["emoji/validation/recall@1"])["a"]
    assert chosen["picked"] == "a+2" and chosen["by"] == ["emoji/validation/recall@1"]
    assert chosen["values"] == pytest.approx({"a+1": 0.4, "a+2": 0.45})


def test_a_setting_with_a_failed_seed_is_not_picked():
    entries = [entry("a+1", 0, 0.9, 0.9), entry("a+1", 1, 0.0, 0.0, "failed"), entry("a+2", 0, 0.1, 0.1)]
    assert pick(entries, ["emoji/validation/recall@1"])["a"]["picked"] == "a+2"
