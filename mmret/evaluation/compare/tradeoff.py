"""Quality against each cost, with the Pareto front."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from mmret.evaluation.compare.chart import Point, scatter
from mmret.evaluation.compare.comparison import Comparison
from mmret.evaluation.compare.cost import COSTS
from mmret.evaluation.compare.pareto import pareto_front


@dataclass(frozen=True)
class Tradeoff:
    """One plot."""

    key: str
    """Of the cost."""
    title: str
    front: tuple[str, ...]
    """By rising cost."""
    unknown: tuple[str, ...]
    """Variants whose cost nobody measured."""
    svg: Markup


def tradeoffs(comparison: Comparison) -> list[Tradeoff]:
    """One for each cost that is worth a plot and in which any two variants differ."""
    headline = comparison.headline
    numbers = {variant.name: number for number, variant in enumerate(comparison.variants)}
    found = []
    for cost in COSTS:
        points = []
        for variant in comparison.finished:
            cell = comparison.cell(variant, headline)
            if cell and cost.key in variant.cost:
                bounds = (100 * cell.interval.low, 100 * cell.interval.high) if cell.interval else (None, None)
                x = variant.cost[cost.key]
                points.append(Point(variant.name, numbers[variant.name], x, 100 * cell.value, *bounds))
        if cost.plotted and len({point.x for point in points}) > 1:
            front = pareto_front({point.label: (point.x, point.y) for point in points})
            unknown = tuple(v.name for v in comparison.ranked if cost.key not in v.cost)
            svg = scatter(
                points, front, name=f"quality against {cost.key}", x_label=cost.title, y_label=f"{headline.label}, %"
            )
            found.append(Tradeoff(cost.key, cost.title, tuple(front), unknown, svg))
    return found
