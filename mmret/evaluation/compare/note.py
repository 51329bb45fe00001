"""What a reader must know before comparing: cells that are missing, sets and inputs that differ."""

from __future__ import annotations

from mmret.evaluation.compare.comparison import Comparison
from mmret.evaluation.compare.cost import COSTS


def notes(comparison: Comparison) -> list[str]:
    """Sentences; none where all variants were measured alike on the same queries with the same inputs."""
    return [
        *comparison.origin.sweeps,
        *_missing(comparison),
        *_other_queries(comparison),
        *_no_intervals(comparison),
        *_inputs(comparison),
    ]


def _missing(comparison: Comparison) -> list[str]:
    found = []
    for variant in comparison.finished:
        lacking = [m.place for m in comparison.measures if comparison.cell(variant, m) is None]
        if lacking:
            found.append(f"{variant.name} was not measured on {', '.join(lacking)}; these cells stay empty.")
    return found


def _other_queries(comparison: Comparison) -> list[str]:
    found = []
    for measure in comparison.measures:
        if not comparison.same_queries(measure):
            told = [
                f"{variant.name} {comparison.asked(variant, measure)[0] or 'other queries'}"
                for variant in comparison.finished
                if comparison.cell(variant, measure)
            ]
            found.append(f"{measure.place} is not the same set for all ({'; '.join(told)}), so none is called best.")
    return found


def _no_intervals(comparison: Comparison) -> list[str]:
    without = [
        variant.name
        for variant in comparison.finished
        if any((cell := comparison.cell(variant, m)) and cell.interval is None for m in comparison.measures)
    ]
    if not without:
        return []
    return [f"No intervals where values of single queries were not kept or differ between seeds: {', '.join(without)}."]


def _inputs(comparison: Comparison) -> list[str]:
    found = []
    for cost in COSTS:
        values = {v.name: v.cost[cost.key] for v in comparison.finished if cost.key in v.cost}
        if cost.given and len(set(values.values())) > 1:
            low, high = min(values, key=lambda name: values[name]), max(values, key=lambda name: values[name])
            span = f"{cost.show(values[low])} ({low}) to {cost.show(values[high])} ({high})"
            found.append(f"Not equal: {cost.title}, {span}.")
    for variant in comparison.finished:
        if variant.data_differs:
            found.append(f"{variant.name} was trained on other data than the rest.")
    return found
