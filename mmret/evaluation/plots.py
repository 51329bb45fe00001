"""Plots as inline SVG that takes its colours from the page, so that it fits light, dark and paper."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Stand-ins that end as CSS variables of the page; series differ in dash and marker too, not in colour alone.
INK, FAINT = "#010203", "#040506"
SERIES = ["#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05", "#0a0b06"]
_VARIABLES = {INK: "var(--ink)", FAINT: "var(--line)"} | {
    colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, 1)
}
_MARKERS = ["o", "s", "^", "D", "v", "P"]
_DASHES = ["-", (0, (5, 2)), (0, (2, 2)), (0, (6, 2, 1, 2)), "-", (0, (5, 2))]
STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": FAINT,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Span:
    """A named part of the x axis: a stage."""

    name: str
    start: float
    end: float


def line_plot(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    name: str,
    y_label: str,
    x_label: str = "optimizer step",
    spans: Sequence[Span] = (),
    percent: bool = False,
) -> Markup:
    """An inline SVG of lines over steps.

    Args:
        series: label -> (x, y) points; more than six share colours.
        name: unique on the page; makes the ids in the SVG unique and the same on every call.
        spans: marked by a line at each start and a name at the top.
        percent: y is in 0 .. 1 and shown in percent.
    """
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(5.8, 3.3), layout="constrained")
        axes = figure.add_subplot()
        for number, (label, points) in enumerate(series.items()):
            x, y = zip(*points) if points else ((), ())
            few = len(points) <= 25
            axes.plot(
                x,
                [100 * value for value in y] if percent else y,
                label=label,
                color=SERIES[number % len(SERIES)],
                linestyle=_DASHES[number % len(_DASHES)],
                marker=_MARKERS[number % len(_MARKERS)] if few else None,
                markersize=4.5,
                linewidth=1.8,
            )
        for number, span in enumerate(spans):
            if number:
                axes.axvline(span.start, color=FAINT, linewidth=1, linestyle=(0, (2, 3)))
            middle = (span.start + span.end) / 2
            axes.text(middle, 1.02, span.name, transform=axes.get_xaxis_transform(), ha="center", fontsize=9.5)
        if spans:
            axes.set_xlim(spans[0].start, spans[-1].end * 1.02)
        if percent:
            axes.set_ylim(0, 102)
        axes.grid(axis="y", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if len(series) > 3:
            figure.legend(loc="outside lower center", ncols=2, fontsize=9)
        elif len(series) > 1:
            axes.legend(loc="best", fontsize=9.5)
        return inline(figure, name)


def histogram(counts: Mapping[float, int], *, name: str, x_label: str, bins: int = 40) -> Markup:
    """An inline SVG of how often values occur, in bars of equal width.

    Args:
        counts: value -> how often; at least one.
        name: unique on the page, as in `line_plot`.
    """
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(5.8, 2.6), layout="constrained")
        axes = figure.add_subplot()
        whole = all(float(value).is_integer() for value in counts)
        low, high = min(counts), max(counts)
        edges: int | list[float] = bins
        if whole:  # each in the middle of a bar, or so many to each bar
            width = max(-(-(high - low + 1) // bins), 1)
            edges = [low - 0.5 + number * width for number in range(int((high - low) // width) + 2)]
        axes.hist(list(counts), bins=edges, weights=list(counts.values()), color=SERIES[0])
        axes.grid(axis="y", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=whole))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_xlabel(x_label)
        return inline(figure, name)


def inline(figure: Figure, name: str) -> Markup:
    """A figure drawn with `STYLE`, as SVG for a page; `name` as in `line_plot`."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return Markup(_for_page(buffer.getvalue(), name))


def standalone(svg: str) -> str:
    """A plot of a page as a file of its own, in the page's colours on white paper."""
    light = Path(__file__).with_name("page.css").read_text("utf-8").partition("@media")[0]
    colours = dict(re.findall(r"--([\w-]+): (#\w+);", light))
    svg = re.sub(r"var\(--([\w-]+)\)", lambda found: colours[found.group(1)], svg)
    return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" style="background: #fff" ', 1) + "\n"


def _for_page(svg: str, title: str) -> str:
    """Without prolog, addresses and fixed size; with the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    head, rest = svg.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    svg = f'<svg {box.group() if box else ""} role="img" aria-label="{title}">{rest}'
    svg = svg.replace("xlink:href", "href")
    referred = set(re.findall(r"#([\w-]+)", svg))  # other ids, such as axes_1, would be on the page once for each plot
    svg = re.sub(r' id="([^"]*)"', lambda found: found.group() if found.group(1) in referred else "", svg)
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(stand_in, variable)
    return svg
