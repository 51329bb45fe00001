"""What a step of each stage costs, for budgets in seconds or FLOPs: a short run of the variant, made once and kept."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmret.bench.budget import overrides_for, steps_for
from mmret.bench.config import Bench
from mmret.bench.process import run_process
from mmret.bench.variant import ResolvedVariant
from mmret.errors import ConfigError
from mmret.recipe import recipe_fingerprint

STEPS_FILE = "steps.json"
TRIAL_STEPS = 20
"""Of each stage: enough for the first, slow ones not to count much."""


def budget_overrides(bench: Bench, variant: ResolvedVariant, tell: Callable[[str], None]) -> list[str]:
    """The steps that the budget gives this variant, as overrides; none without a budget.

    What was measured for it is kept in `<out>/<variant>/steps.json`, so that all seeds and every restart train alike.

    Raises:
        ConfigError: the budget does not pay one step of each stage.
        ProcessFailed: the trial did.
    """
    if bench.budget is None:
        return []
    costs: list[float] = []
    if bench.budget.kind in ("seconds", "flops"):
        costs = _measured(bench, variant, tell)
    try:
        steps = steps_for(bench.budget, variant.recipe, variant.share, costs)
    except ConfigError as error:
        raise ConfigError(f"variants.{variant.name}: {error}") from error
    return overrides_for(variant.recipe, steps)


def planned_steps(bench: Bench, variant: ResolvedVariant) -> list[int] | None:
    """Steps of each stage as far as they are known without a trial; None: a trial will tell."""
    if bench.budget is None:
        return [stage.steps for stage in variant.recipe.stages]
    if bench.budget.kind in ("steps", "samples"):
        return steps_for(bench.budget, variant.recipe, variant.share)
    known = _kept(bench, variant)
    return steps_for(bench.budget, variant.recipe, variant.share, known) if known else None


def _measured(bench: Bench, variant: ResolvedVariant, tell: Callable[[str], None]) -> list[float]:
    known = _kept(bench, variant)
    if known is not None:
        return known
    assert bench.budget is not None
    file = _file(bench, variant)
    folder, log = file.with_name("trial"), file.with_name("trial.log")
    tell(f"{variant.name}: a trial run tells what a step costs")
    shutil.rmtree(folder, ignore_errors=True)
    stages = variant.recipe.stages
    short = overrides_for(variant.recipe, [min(TRIAL_STEPS, stage.steps) for stage in stages])
    own = [f"name={bench.name}-trial", f"out={folder}", "evaluation.benchmarks=[]", f"seed={bench.seeds[0]}"]
    run_process(["mmret", "run", str(variant.file), *variant.overrides, *short, *own], log, tell, variant.environ)
    if bench.budget.kind == "seconds":
        costs = [_seconds_of_step(folder / stage.name, stage.data.batch_size) for stage in stages]
    else:
        run_process(["mmret.bench", "flops", str(folder)], log, tell, variant.environ)
        costs = [float(value) for value in json.loads((folder / "flops.json").read_text())["per_step"]]
    record = {"key": _key(variant), "unit": bench.budget.kind, "cost_of_step": costs}
    part = file.with_name(f"{STEPS_FILE}.part")
    part.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(part, file)
    shutil.rmtree(folder, ignore_errors=True)
    return costs


def _seconds_of_step(stage: Path, batch_size: int) -> float:
    record: dict[str, Any] = json.loads((stage / "stage.json").read_text())
    return batch_size / record["samples_per_s"]


def _file(bench: Bench, variant: ResolvedVariant) -> Path:
    return Path(bench.out) / variant.name / STEPS_FILE


def _kept(bench: Bench, variant: ResolvedVariant) -> list[float] | None:
    assert bench.budget is not None
    file = _file(bench, variant)
    record = json.loads(file.read_text()) if file.is_file() else {}
    same = record.get("key") == _key(variant) and record.get("unit") == bench.budget.kind
    return record["cost_of_step"] if same else None


def _key(variant: ResolvedVariant) -> str:
    return recipe_fingerprint(variant.recipe)
