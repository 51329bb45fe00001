"""The results in a terminal, at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmret.evaluation.names import RERANKED
from mmret.evaluation.tables import BenchmarkTable, metric_label, percent, tables


def terminal_table(
    metrics: Mapping[str, float], benchmarks: Sequence[Mapping[str, Any]] = (), console: Console | None = None
) -> None:
    """Show a table per benchmark: splits, and beneath each its controls. Groups are for the report page.

    Args:
        metrics: as in metrics.json.
        benchmarks: as in evaluation.json, for titles and counts.
        console: where to; None: standard output.
    """
    console = console or Console()
    for table in tables(metrics, benchmarks):
        console.print(_table(table))


def _table(table: BenchmarkTable) -> Table:
    documents = table.facts.get("documents")
    title = table.prefix + (f", {documents:,} documents" if documents else "") + ", in %"
    shown = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.add_column("")
    counted = any(split.own.count for split in table.splits.values())
    if counted:
        shown.add_column("queries", justify="right")
    for name in table.metrics:
        shown.add_column(metric_label(name, short=True), justify="right")
    for split in table.splits.values():
        for name, row in {"": split.own, **split.controls}.items():
            own, style = not name, "bold" if name in ("", RERANKED) else "dim"
            cells = [Text(row.label if own else f"  {row.label}", style=style)]
            if counted:
                cells.append(Text(f"{row.count:,}" if own and row.count else "", style="dim"))
            for name in table.metrics:
                value = row.values.get(name)
                cells.append(Text("" if value is None else percent(value), style=style))
            shown.add_row(*cells)
    return shown
