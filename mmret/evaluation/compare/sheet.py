"""The comparison as rows: Markdown for people, CSV for programs."""

from __future__ import annotations

import csv
import io

from mmret.evaluation.compare.comparison import Cell, Comparison
from mmret.evaluation.compare.cost import COSTS, Cost
from mmret.evaluation.compare.note import notes
from mmret.evaluation.compare.variant import Variant
from mmret.evaluation.tables import percent

LEGEND = (
    "In percent, mean over seeds; in parentheses the 95 % interval of a bootstrap over queries and seeds. "
    "**Bold**: best of its column. \\*: worse than the best (paired bootstrap, p < 0.05 after Holm's correction)."
)


def markdown(comparison: Comparison) -> str:
    """Quality, cost, notes and failures."""
    costs = known_costs(comparison)
    quality = [["variant", "seeds", *(m.label for m in comparison.measures)]]
    spent = [["variant", *(cost.label for cost in costs)]]
    for variant in comparison.variants:
        cells = [comparison.cell(variant, m) if variant.runs else None for m in comparison.measures]
        quality.append([variant.name, variant.seeds, *(_markdown_cell(cell) for cell in cells)])
        if variant.runs:
            spent.append([variant.name, *(shown_cost(variant, cost) for cost in costs)])
    name = comparison.origin.name
    parts = [f"# {name}: comparison" if name else "# Comparison"]
    if comparison.origin.budget:
        parts.append(f"Budget: {comparison.origin.budget}.")
    parts += ["## Quality", _markdown_table(quality), LEGEND]
    if costs:
        parts += ["## Cost", _markdown_table(spent)]
    if told := notes(comparison):
        parts += ["## To know before comparing", "\n".join(f"- {note}" for note in told)]
    if failed := failures(comparison):
        parts += ["## Not finished", "\n".join(f"- {variant}: {about}" for variant, about in failed)]
    return "\n\n".join(parts) + "\n"


def comparison_csv(comparison: Comparison) -> str:
    """A row for each variant: status, every metric with bounds (0 .. 1), every cost in its unit; empty: not known."""
    buffer = io.StringIO()
    lines = csv.writer(buffer, lineterminator="\n")
    head = ["variant", "seeds_finished", "seeds_failed", "error"]
    for measure in comparison.all_measures:
        head += [measure.name, f"{measure.name} low", f"{measure.name} high"]
        head += [f"{measure.name} worse_than_best"] * (measure in comparison.measures)
    lines.writerow([*head, *(cost.key for cost in COSTS)])
    for variant in comparison.variants:
        row: list[object] = [variant.name, len(variant.runs), len(variant.failures)]
        row.append("; ".join(failure.error or failure.status for failure in variant.failures))
        for measure in comparison.all_measures:
            cell = comparison.cell(variant, measure)
            bounds = cell.interval if cell else None
            row += ["" if cell is None else f"{cell.value:.6g}"]
            row += ["", ""] if bounds is None else [f"{bounds.low:.6g}", f"{bounds.high:.6g}"]
            if measure in comparison.measures:
                row.append("" if cell is None or bounds is None else "yes" if cell.worse else "no")
        lines.writerow([*row, *(f"{variant.cost[c.key]:.10g}" if c.key in variant.cost else "" for c in COSTS)])
    return buffer.getvalue()


def known_costs(comparison: Comparison) -> list[Cost]:
    """Those that any variant has."""
    return [cost for cost in COSTS if any(cost.key in variant.cost for variant in comparison.finished)]


def shown_cost(variant: Variant, cost: Cost) -> str:
    """Empty cells are a dash."""
    return cost.show(variant.cost[cost.key]) if cost.key in variant.cost else "–"


def failures(comparison: Comparison) -> list[tuple[str, str]]:
    """(variant and seed, what happened)."""
    return [
        (
            variant.name + ("" if failure.seed is None else f", seed {failure.seed}"),
            failure.status + (f": {failure.error}" if failure.error else ""),
        )
        for variant in comparison.variants
        for failure in variant.failures
    ]


def bounds(cell: Cell) -> str:
    """ "84.0–88.2"; empty without an interval."""
    return "" if cell.interval is None else f"{percent(cell.interval.low)}–{percent(cell.interval.high)}"


def _markdown_cell(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    value = percent(cell.value)
    shown = f"**{value}**" if cell.best else value + (r"\*" if cell.worse else "")
    return f"{shown} ({bounds(cell)})" if cell.interval else shown


def _markdown_table(rows: list[list[str]]) -> str:
    clean = [[cell.replace("|", r"\|").replace("\n", " ") for cell in row] for row in rows]
    rule = ["---"] + ["---:"] * (len(rows[0]) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in (clean[0], rule, *clean[1:]))
