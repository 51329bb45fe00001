"""Quality by task: a polygon for each variant, as the PreFLMR article draws it; bars for fewer than three tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from mmret.evaluation.compare.chart import Point, bars, radar
from mmret.evaluation.compare.comparison import Comparison, Measure
from mmret.evaluation.compare.variant import Variant
from mmret.evaluation.tables import metric_label, percent

SHOWN = 6
"""Polygons that an eye can follow."""


LINE_BREAK = "\n"


def task_chart(comparison: Comparison) -> tuple[str, Markup] | None:
    """(caption, SVG) over the splits on which at least two variants are above 0; None where there is none."""
    variants = comparison.ranked[:SHOWN]
    measures = [m for m in comparison.measures if sum(bool(_value(comparison, v, m)) for v in variants) > 1]
    if not measures:
        return None
    numbers = {variant.name: number for number, variant in enumerate(comparison.variants)}
    left_out = len(comparison.finished) - len(variants)
    best_only = f" The best {SHOWN} variants are shown." if left_out > 0 else ""
    if len(measures) < 3:
        values = {v.name: (numbers[v.name], [_point(comparison, v, m) for m in measures]) for v in variants}
        return f"With 95 % intervals.{best_only}", bars([_label(m) for m in measures], values, name="quality by task")
    rows = {v.name: [_value(comparison, v, m) for m in measures] for v in variants}
    shown = normalised(rows)
    rims = [max(value for row in rows.values() if (value := row[axis]) is not None) for axis in range(len(measures))]
    # Benchmark and split in a line each: side by side they would leave the picture.
    labels = [f"{_label(measure, LINE_BREAK)} {percent(rim)}" for measure, rim in zip(measures, rims)]
    caption = f"Each axis runs from 0 in the centre to its best variant, whose value stands at its end.{best_only}"
    return caption, radar(labels, {name: (numbers[name], row) for name, row in shown.items()}, name="quality by task")


def normalised(rows: Mapping[str, Sequence[float | None]]) -> dict[str, list[float | None]]:
    """Each axis divided by its best value: 0 .. 1; an axis on which all are 0 stays 0, a missing value missing.

    Args:
        rows: variant -> its value on each axis, in 0 .. 1.
    """
    axes = list(zip(*rows.values()))
    rims = [max((value for value in axis if value is not None), default=0.0) or 1.0 for axis in axes]
    return {
        name: [None if value is None else value / rim for value, rim in zip(row, rims)] for name, row in rows.items()
    }


def _value(comparison: Comparison, variant: Variant, measure: Measure) -> float | None:
    cell = comparison.cell(variant, measure)
    return None if cell is None else cell.value


def _point(comparison: Comparison, variant: Variant, measure: Measure) -> Point | None:
    cell = comparison.cell(variant, measure)
    if cell is None:
        return None
    low, high = (100 * cell.interval.low, 100 * cell.interval.high) if cell.interval else (None, None)
    return Point(variant.name, 0, 0.0, 100 * cell.value, low, high)


def _label(measure: Measure, between: str = " ") -> str:
    return f"{measure.benchmark}{between}{measure.split.replace('_', ' ')}\n{metric_label(measure.metric, short=True)}"
