"""Charts over variants, inline SVG: they differ in colour (Okabe and Ito 2008), marker and dash, so paper will do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from mmret.evaluation.compare.cost import short
from mmret.evaluation.plots import FAINT, INK, SERIES, STYLE, inline

# As many markers as no divisor of the colours, so that pairs of both repeat late.
_COLOURS = [*SERIES, INK]
_MARKERS = ["o", "s", "^", "D", "v", "P", "X", "p", "<", "*", ">"]
_DASHES: list[Any] = ["-", (0, (5, 2)), (0, (2, 2)), (0, (6, 2, 1, 2)), (0, (1, 1))]
_LEGEND_ROW = 0.19
"""Inches."""
_WIDE = 20
"""Times the smallest value: from there on an axis is logarithmic."""


@dataclass(frozen=True)
class Point:
    """A variant in a scatter plot; y and its bounds in percent."""

    label: str
    number: int
    """Of the variant: decides colour, marker and dash in all charts."""
    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """A variant's curve."""

    label: str
    number: int
    points: Sequence[tuple[float, float]]


def look(number: int) -> dict[str, Any]:
    """How a variant is drawn."""
    return {
        "color": _COLOURS[number % len(_COLOURS)],
        "marker": _MARKERS[number % len(_MARKERS)],
        "linestyle": _DASHES[number % len(_DASHES)],
        "markersize": 7,
        "linewidth": 1.7,
    }


def scatter(points: Sequence[Point], front: Sequence[str], *, name: str, x_label: str, y_label: str) -> Markup:
    """Points with their intervals; those of the Pareto front are filled and joined by a step line.

    Args:
        points: at least one.
        front: labels, by rising x.
        name: unique on the page.
    """
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}):
        figure, axes = _axes(5.4, 3.4)
        on_front = {point.label: point for point in points}
        steps = [on_front[label] for label in front]
        axes.step(
            [p.x for p in steps], [p.y for p in steps], where="post", color=INK, linewidth=1, linestyle=(0, (4, 3))
        )
        for point in points:
            style: dict[str, Any] = {**look(point.number), "linestyle": "none"}
            filled = point.label in front
            if point.low is not None and point.high is not None:
                axes.plot([point.x, point.x], [point.low, point.high], color=style["color"], linewidth=1)
            face = style["color"] if filled else "none"
            label = point.label + (" (front)" if filled else "")
            axes.plot([point.x], [point.y], **style, label=label, markerfacecolor=face, markeredgewidth=1.6)
        _scale_x(axes, [point.x for point in points])
        _finish(figure, axes, x_label, y_label)
        return inline(figure, name)


def lines(
    series: Sequence[Line], *, name: str, x_label: str, y_label: str, wide: bool = False, whole: bool = False
) -> Markup:
    """Curves; markers where points are few.

    Args:
        wide: x may become logarithmic.
        whole: x is a whole number.
    """
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}):
        figure, axes = _axes(5.4, 3.2)
        for line in series:
            style: dict[str, Any] = {**look(line.number), "markersize": 4.5}
            if len(line.points) > 25:
                style["markevery"] = max(len(line.points) // 8, 1)
            x, y = zip(*line.points) if line.points else ((), ())
            axes.plot(x, y, **style, label=line.label)
        if wide:
            _scale_x(axes, [x for line in series for x, _ in line.points])
        elif whole:
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        _finish(figure, axes, x_label, y_label)
        return inline(figure, name)


def radar(
    axis_labels: Sequence[str], polygons: Mapping[str, tuple[int, Sequence[float | None]]], *, name: str
) -> Markup:
    """One polygon for each variant.

    Args:
        axis_labels: at least three.
        polygons: variant -> its number and, for each axis, 0 (centre) .. 1 (rim); None leaves a gap.
    """
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(7.2, 5.6), layout="constrained")
        axes: Any = figure.add_subplot(projection="polar")
        axes.set_theta_offset(math.pi / 2)
        axes.set_theta_direction(-1)
        angles = [2 * math.pi * number / len(axis_labels) for number in range(len(axis_labels))]
        for label, (number, values) in polygons.items():
            style = look(number) | {"markersize": 5}
            closed = [math.nan if value is None else value for value in (*values, values[0])]
            axes.plot([*angles, angles[0]], closed, label=label, **style)
        axes.set_ylim(0, 1.03)
        axes.set_yticks([0.25, 0.5, 0.75, 1.0], labels=[])
        axes.set_xticks(angles, labels=axis_labels)
        axes.spines["polar"].set_visible(False)
        axes.grid(linewidth=0.6, color=FAINT)
        axes.tick_params(axis="x", pad=4)
        for angle, tick in zip(angles, axes.get_xticklabels()):
            side = math.sin(angle)
            tick.set_horizontalalignment("center" if abs(side) < 0.1 else "left" if side > 0 else "right")
            up = math.cos(angle)
            tick.set_verticalalignment("center" if abs(up) < 0.5 else "bottom" if up > 0 else "top")
        figure.legend(loc="outside lower center", ncols=3, fontsize=9.5)
        return inline(figure, name)


def bars(groups: Sequence[str], variants: Mapping[str, tuple[int, Sequence[Point | None]]], *, name: str) -> Markup:
    """For fewer than three axes: groups of bars with intervals, hatched so that paper will do.

    Args:
        groups: labels below.
        variants: variant -> its number and, for each group, its value in percent (x is not read).
    """
    hatches = ["", "////", "....", "\\\\\\\\", "xxxx", "----", "++++", "oooo", "||||", "**", "OO"]
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": name, "hatch.linewidth": 0.8}):
        figure, axes = _axes(7.2, 3.6)
        width = 0.8 / len(variants)
        for place, (label, (number, values)) in enumerate(variants.items()):
            colour = look(number)["color"]
            shown = [(group + width * (place + 0.5) - 0.4, point) for group, point in enumerate(values) if point]
            axes.bar(
                [x for x, _ in shown],
                [point.y for _, point in shown],
                width * 0.9,
                label=label,
                facecolor="none",
                edgecolor=colour,
                hatch=hatches[number % len(hatches)],
                linewidth=1.5,
            )
            for x, point in shown:
                if point.low is not None and point.high is not None:
                    axes.plot([x, x], [point.low, point.high], color=INK, linewidth=1.2)
        axes.set_xticks(range(len(groups)), labels=groups)
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.55, len(groups) - 0.45)
        axes.set_ylim(bottom=0)
        _finish(figure, axes, "", "%")
        return inline(figure, name)


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _scale_x(axes: Axes, values: Sequence[float]) -> None:
    low, high = min(values), max(values)
    if low > 0 and high > _WIDE * low:
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.margins(x=0.08)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def _finish(figure: Figure, axes: Axes, x_label: str, y_label: str) -> None:
    axes.grid(axis="y", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    labels = axes.get_legend_handles_labels()[1]
    if labels:
        columns = 3 if max(map(len, labels)) < 18 else 2
        rows = math.ceil(len(labels) / columns)
        width, height = figure.get_size_inches()
        figure.set_size_inches(width, height + _LEGEND_ROW * max(rows - 2, 0))  # or many variants leave no room to plot
        figure.legend(loc="outside lower center", ncols=columns, fontsize=9)
