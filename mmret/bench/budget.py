"""A budget to steps: each stage keeps its share, whatever the budget is counted in."""

from __future__ import annotations

from collections.abc import Sequence

from mmret.bench.config import Budget
from mmret.errors import ConfigError
from mmret.recipe import Recipe


def steps_for(budget: Budget, recipe: Recipe, share: float = 1.0, cost_of_step: Sequence[float] = ()) -> list[int]:
    """Steps of each stage: the recipe's times one factor, such that together they cost the budget.

    Rounded to whole steps, at least one of each stage; of a budget in steps the sum is exact.

    Args:
        share: of the budget, for this variant.
        cost_of_step: what a step of each stage costs in the budget's unit; for seconds and flops.

    Raises:
        ConfigError: the budget does not pay one step of each stage.
    """
    amount, steps = budget.amount * share, [stage.steps for stage in recipe.stages]
    if budget.kind == "steps":
        costs = [1.0] * len(steps)
    elif budget.kind == "samples":
        costs = [float(stage.data.batch_size) for stage in recipe.stages]
    else:
        costs = [float(cost) for cost in cost_of_step]
    least = sum(costs)
    if amount < least:
        raise ConfigError(
            f"budget of {amount:g} {budget.kind}: one step of each stage "
            f"({', '.join(stage.name for stage in recipe.stages)}) takes {least:g}; raise it"
        )
    factor = amount / sum(number * cost for number, cost in zip(steps, costs))
    exact = [number * factor for number in steps]
    if budget.kind != "steps":
        return [max(1, round(number)) for number in exact]
    whole = [max(1, int(number)) for number in exact]
    # The largest remainders get what is left; a stage raised to its one step is paid by the longest.
    order = sorted(range(len(whole)), key=lambda i: (exact[i] - whole[i], -i), reverse=True)
    for index in order[: max(0, int(amount) - sum(whole))]:
        whole[index] += 1
    while sum(whole) > int(amount):
        whole[whole.index(max(whole))] -= 1
    return whole


def overrides_for(recipe: Recipe, steps: Sequence[int]) -> list[str]:
    """The steps as overrides; a warm-up given in steps shrinks or grows with its stage."""
    told = []
    for index, (stage, number) in enumerate(zip(recipe.stages, steps)):
        told.append(f"stages[{index}].steps={number}")
        if stage.schedule.warmup_steps:
            told.append(
                f"stages[{index}].schedule.warmup_steps={round(stage.schedule.warmup_steps * number / stage.steps)}"
            )
    return told
