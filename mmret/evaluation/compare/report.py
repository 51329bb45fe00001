"""Write a comparison: `comparison.md`, `comparison.csv` and one page that stands alone, `comparison.html`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mmret.evaluation.compare.comparison import Comparison
from mmret.evaluation.compare.confusion import agreements, group_tables
from mmret.evaluation.compare.curve import learning_curves
from mmret.evaluation.compare.diff import as_text, recipe_diff
from mmret.evaluation.compare.duel import duels
from mmret.evaluation.compare.note import notes
from mmret.evaluation.compare.radar import task_chart
from mmret.evaluation.compare.scaling import scaling_curves
from mmret.evaluation.compare.sheet import bounds, comparison_csv, failures, known_costs, markdown, shown_cost
from mmret.evaluation.compare.tradeoff import tradeoffs
from mmret.evaluation.page import write_page
from mmret.evaluation.plots import standalone
from mmret.evaluation.tables import metric_label, percent

STEM = "comparison"
_HERE = Path(__file__).parent


def write_comparison(comparison: Comparison, folder: str | Path) -> list[Path]:
    """Write the three files into a folder, which is made; gives their paths, the page last."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for ending, text in (("md", markdown(comparison)), ("csv", comparison_csv(comparison))):
        path = folder / f"{STEM}.{ending}"
        path.write_text(text, "utf-8")
        written.append(path)
    return [*written, _write_page(comparison, folder / f"{STEM}.html")]


def write_plots(comparison: Comparison, folder: str | Path) -> list[Path]:
    """Quality against each cost and by task as SVG files, for a document that shows them; gives their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    plots = {f"quality-against-{plot.key.replace('_', '-')}": plot.svg for plot in tradeoffs(comparison)}
    if tasks := task_chart(comparison):
        plots["quality-by-task"] = tasks[1]
    for name, svg in plots.items():
        (folder / f"{name}.svg").write_text(standalone(svg), "utf-8")
    return [folder / f"{name}.svg" for name in plots]


def _write_page(comparison: Comparison, path: Path) -> Path:
    pair = comparison.pair
    return write_page(
        path,
        _HERE / "comparison.html.j2",
        {"percent": percent, "metric_label": metric_label, "bounds": bounds},
        compare_style=_asset("compare.css"),
        script=_asset("compare.js"),
        comparison=comparison,
        pair=pair,
        apart=comparison.difference(*pair, comparison.headline) if pair else None,
        notes=notes(comparison),
        failures=failures(comparison),
        costs=known_costs(comparison),
        shown_cost=shown_cost,
        tradeoffs=tradeoffs(comparison),
        tasks=task_chart(comparison),
        curves=learning_curves(comparison),
        scaling=scaling_curves(comparison),
        groups=group_tables(comparison),
        agreements=agreements(comparison, *pair) if pair else [],
        duels=duels(comparison, *pair) if pair else {},
        changed=recipe_diff(pair[0].recipe, pair[1].recipe) if pair else {},
        recipes=_recipes(comparison),
    )


def _recipes(comparison: Comparison) -> Markup:
    """For the page's script: the keys in which any two recipes differ, and each variant's values."""
    known = [variant for variant in comparison.finished if variant.recipe]
    keys = dict.fromkeys(key for v in known for key in recipe_diff(known[0].recipe, v.recipe))
    values: dict[str, Any] = {v.name: [as_text(v.recipe, key) for key in keys] for v in known}
    # Nothing in a value can end the script element.
    return Markup(json.dumps({"keys": list(keys), "values": values}, ensure_ascii=False).replace("<", "\\u003c"))


def _asset(name: str) -> Markup:
    return Markup((_HERE / name).read_text("utf-8").rstrip())
