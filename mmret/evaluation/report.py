"""One page about a run: tables, curves, stages, example questions. It stands alone: no request leaves it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mmret.evaluation.gallery import gallery
from mmret.evaluation.names import MetricName
from mmret.evaluation.page import write_page
from mmret.evaluation.plots import Span, line_plot
from mmret.evaluation.record import RunRecord, StageRecord
from mmret.evaluation.tables import BenchmarkTable, Row, SplitTable, metric_label, percent, tables
from mmret.evaluation.terminal import terminal_table

__all__ = ["terminal_table", "write_report"]

REPORT_FILE = "report.html"


def write_report(run_folder: str | Path) -> Path:
    """Write `report.html` into a run's folder from the files in it; gives its path.

    Read are metrics.json and, where there, evaluation/ (as `Evaluation.write` wrote it), recipe.yaml, command.json, and
    of each stage stage.json and metrics.csv. What is missing is left out of the page.

    Raises:
        CheckpointError: the folder has no metrics.json.
    """
    run = RunRecord.read(run_folder)
    found = tables(run.metrics, run.benchmarks)
    return write_page(
        run.folder / REPORT_FILE,
        Path(__file__).with_name("report.html.j2"),
        {"percent": percent, "metric_label": metric_label, "duration": duration, "count": count},
        run=run,
        measured=_date(run.environment["measured"]),
        seconds=sum(stage.facts.get("seconds", 0) for stage in run.stages)
        + sum(entry.get("seconds") or 0 for entry in run.benchmarks),
        headline=headline(found),
        tables=found,
        group_tables=[group for table in found for group in group_tables(table)],
        curves=curves(run.stages),
        stages=[_stage(stage) for stage in run.stages],
        gallery=gallery(run.benchmarks, run.rankings, run.gallery),
    )


@dataclass(frozen=True)
class Headline:
    """The one number, and what it has to be compared with."""

    table: BenchmarkTable
    split: SplitTable
    metric: str


def headline(found: Sequence[BenchmarkTable]) -> Headline | None:
    """The first metric of the first benchmark's gallery split; without one, of its first split with controls."""
    for table in found:
        splits = table.splits
        named = splits.get(str(table.facts.get("gallery")))
        split = named or next((split for split in splits.values() if split.controls), next(iter(splits.values())))
        if split.own.values:
            return Headline(table, split, table.metrics[0])
    return None


@dataclass(frozen=True)
class GroupTable:
    """Groups of the splits of one benchmark that are grouped by the same field."""

    benchmark: str
    field: str
    splits: tuple[SplitTable, ...]
    labels: tuple[str, ...]
    """Falling by the first metric of the first split."""
    metrics: tuple[str, ...]

    def row(self, split: SplitTable, label: str) -> Row | None:
        """A group's line."""
        return split.groups.get(f"{self.field}={label}")


def group_tables(table: BenchmarkTable) -> list[GroupTable]:
    """One table for each field by which splits are grouped."""
    found = []
    for field in dict.fromkeys(split.group_by for split in table.splits.values() if split.group_by and split.groups):
        splits = tuple(split for split in table.splits.values() if split.group_by == field and split.groups)
        labels = dict.fromkeys(row.label for split in splits for row in split.groups.values())
        ordered = tuple(
            sorted(labels, key=lambda label, first=splits[0]: (-_main_value(first, label, table.metrics[0]), label))
        )
        found.append(GroupTable(table.prefix, str(field), splits, ordered, tuple(table.metrics)))
    return found


def _main_value(split: SplitTable, label: str, metric: str) -> float:
    row = split.groups.get(f"{split.group_by}={label}")
    return -1.0 if row is None else row.values.get(metric, -1.0)


def curves(stages: Sequence[StageRecord]) -> list[tuple[str, Markup]]:
    """(caption, SVG) of the loss and of what was measured while training, over the steps of all stages."""
    spans, start = [], 0
    for stage in stages:
        spans.append(Span(stage.name, start, start + stage.steps))
        start += stage.steps
    if not start:
        return []
    losses = {"training loss": "train/loss", "validation loss": "val/loss"}
    loss = {label: _joined(stages, spans, name, gaps=True) for label, name in losses.items()}
    plots = []
    if any(loss.values()):
        shown = {label: points for label, points in loss.items() if points}
        plots.append(("Loss", line_plot(shown, name="loss over steps", y_label="loss", spans=spans)))
    columns = dict.fromkeys(name for stage in stages for name in (*stage.log, *stage.facts.get("metrics", {})))
    parsed = {name: MetricName.parse(name) for name in columns}
    measured = {
        f"{part.benchmark}/{part.split} {metric_label(part.metric)}": _joined(stages, spans, name)
        for name, part in parsed.items()
        if part and not part.control and not part.group and part.benchmark not in ("train", "val")
    }
    if measured:
        plot = line_plot(measured, name="metrics over steps", y_label="%", spans=spans, percent=True)
        plots.append(("Measured while training", plot))
    return plots


def _joined(
    stages: Sequence[StageRecord], spans: Sequence[Span], name: str, gaps: bool = False
) -> list[tuple[float, float]]:
    """A series over all stages; with gaps between them, as losses of unlike stages do not compare."""
    points: list[tuple[float, float]] = []
    for stage, span in zip(stages, spans):
        inside = [(span.start + step, value) for step, value in stage.series(name)]
        if gaps and points and inside:
            points.append((span.start, math.nan))
        points.extend(inside)
    return points


def _stage(stage: StageRecord) -> dict[str, Any]:
    """What the stage table shows."""
    data = stage.section.get("data", {})
    sources = {name: _weight(value) for name, value in data.get("sources", {}).items()}
    total = sum(sources.values()) or 1.0
    handover = stage.facts.get("handover", {})
    return {
        "name": stage.name,
        "steps": stage.steps,
        "batch_size": data.get("batch_size"),
        "sources": {name: weight / total for name, weight in sources.items()},
        "objectives": list(stage.section.get("objectives", {})),
        "lr": stage.section.get("optimizer", {}).get("lr"),
        "trainable": stage.facts.get("trainable"),
        "parameters": stage.facts.get("parameters"),
        "samples_per_s": stage.facts.get("samples_per_s"),
        "seconds": stage.facts.get("seconds"),
        "source": handover.get("source"),
        "handover": {kind: names for kind, names in handover.items() if kind != "source" and names},
        "loss": next((value for _, value in reversed(stage.series("train/loss"))), None),
        "recall": next(_recalls(stage.facts.get("metrics", {})), None),
    }


def _recalls(metrics: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    """(split, Recall@1) of what was measured right after a stage."""
    for name, value in metrics.items():
        part = MetricName.parse(name)
        if part and part.metric == "recall@1" and not part.control and not part.group:
            yield part.split, value


def _weight(value: Any) -> float:
    return float(value.get("weight", 1.0) if isinstance(value, Mapping) else value)


def _date(iso: str) -> str:
    moment = datetime.fromisoformat(iso)
    return f"{moment.day} {moment:%B %Y, %H:%M} {moment.tzname() or ''}".strip()


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def count(number: float) -> str:
    """A large number, short: 22.9 M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:g}"
