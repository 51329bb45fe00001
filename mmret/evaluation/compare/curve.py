"""Learning curves: losses of each stage, and what was measured while training, a line for each variant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from mmret.evaluation.compare.chart import Line, lines
from mmret.evaluation.compare.comparison import Comparison
from mmret.evaluation.compare.variant import Variant
from mmret.evaluation.record import RunRecord

LOSSES = {"train/loss": "training loss", "val/loss": "validation loss"}
Points = list[tuple[float, float]]


def learning_curves(comparison: Comparison) -> list[tuple[str, Markup]]:
    """(caption, SVG). A line is the mean over seeds.

    Losses are drawn apart for each stage, as those of other objectives do not compare; what was measured runs over the
    steps of all stages.
    """
    numbered = list(enumerate(comparison.variants))
    found = []
    for stage in dict.fromkeys(stage.name for _, v in numbered for run in v.runs for stage in run.stages):
        for column, label in LOSSES.items():
            drawn = [Line(v.name, n, points) for n, v in numbered if (points := _loss(v, stage, column))]
            if drawn:
                caption = f"{stage}: {label}"
                svg = lines(drawn, name=caption, x_label="optimizer step of the stage", y_label=label, whole=True)
                found.append((caption, svg))
    for measure in comparison.measures:
        drawn = [Line(v.name, n, points) for n, v in numbered if (points := _measured(v, measure.name))]
        if any(len(line.points) > 1 for line in drawn):
            caption = f"{measure.label} while training"
            svg = lines(drawn, name=caption, x_label="optimizer step of all stages", y_label="%", whole=True)
            found.append((caption, svg))
    return found


def _loss(variant: Variant, stage: str, column: str) -> Points:
    return mean_curve([s.series(column) for run in variant.runs for s in run.stages if s.name == stage])


def _measured(variant: Variant, column: str) -> Points:
    return [(step, 100 * value) for step, value in mean_curve([_joined(run, column) for run in variant.runs])]


def _joined(run: RunRecord, column: str) -> Points:
    points: Points = []
    start = 0
    for stage in run.stages:
        points.extend((start + step, value) for step, value in stage.series(column))
        start += stage.steps
    return points


def mean_curve(curves: Iterable[Sequence[tuple[float, float]]]) -> Points:
    """Mean over seeds at each step; at a step that some lack, over those that have it."""
    values: dict[float, list[float]] = {}
    for curve in curves:
        for step, value in curve:
            values.setdefault(step, []).append(value)
    return [(step, sum(found) / len(found)) for step, found in sorted(values.items())]
