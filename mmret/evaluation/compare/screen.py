"""The comparison in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmret.evaluation.compare.comparison import Cell, Comparison
from mmret.evaluation.compare.note import notes
from mmret.evaluation.compare.sheet import bounds, failures, known_costs, shown_cost
from mmret.evaluation.tables import metric_label, percent

MARKS = "bold: best of its column; *: worse than it (paired bootstrap, p < 0.05 after Holm's correction)"


@dataclass(frozen=True)
class Column:
    """A heading and a cell for each variant."""

    heading: str
    cells: Sequence[Text]

    @property
    def width(self) -> int:
        """Characters, with the gap: headings may break between words, cells may not."""
        parts = [*self.heading.split(), *(line for cell in self.cells for line in cell.plain.split("\n"))]
        return max(map(len, parts)) + 2


def show_comparison(comparison: Comparison, console: Console) -> None:
    """Quality, cost, notes and failures."""
    names = [variant.name for variant in comparison.variants]
    for table in _tables("quality in % (95 % interval)", names, _quality(comparison), console.width):
        console.print(table)
    console.print(Text(MARKS, style="dim"))
    costs = [
        Column(cost.label, [Text(shown_cost(variant, cost)) for variant in comparison.finished])
        for cost in known_costs(comparison)
    ]
    for table in _tables("cost", [variant.name for variant in comparison.finished], costs, console.width):
        console.print(table)
    for note in notes(comparison):
        console.print(Text(f"note: {note}", style="yellow"))
    for variant, about in failures(comparison):
        console.print(Text(f"{variant}: {about}", style="red"))


def _quality(comparison: Comparison) -> list[Column]:
    columns = [Column("seeds", [Text(variant.seeds) for variant in comparison.variants])]
    for measure in comparison.measures:
        words = f"{measure.benchmark} {measure.split.replace('_', ' ')} {metric_label(measure.metric, short=True)}"
        cells = comparison.cells(measure)
        columns.append(Column(words, [_cell(cells.get(variant.name)) for variant in comparison.variants]))
    return columns


def _cell(cell: Cell | None) -> Text:
    if cell is None:
        return Text("–", style="dim")
    value = Text(percent(cell.value) + "*" * cell.worse, style="bold" if cell.best else "")
    return value.append(f"\n{bounds(cell)}", style="not bold dim") if cell.interval else value


def _tables(title: str, names: Sequence[str], columns: Sequence[Column], width: int) -> Iterator[Table]:
    """As many columns to a table as fit beside the names, at least one."""
    room = width - max(map(len, names), default=0) - 3
    while columns:
        taken = 1
        while taken < len(columns) and sum(column.width for column in columns[: taken + 1]) <= room:
            taken += 1
        table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("", no_wrap=True)
        for column in columns[:taken]:
            table.add_column(column.heading, justify="right", width=column.width - 2)
        for row, name in enumerate(names):
            table.add_row(name, *(column.cells[row] for column in columns[:taken]))
        yield table
        title, columns = f"{title.removesuffix(', continued')}, continued", columns[taken:]
