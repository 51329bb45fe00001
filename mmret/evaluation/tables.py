"""The numbers of metrics.json as tables: splits with their controls, groups of a split. For terminal and page alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmret.evaluation.metrics import METRICS
from mmret.evaluation.names import RERANKED, MetricName

CONTROL_LABELS = {
    RERANKED: "re-ranked",
    "question_only": "question only",
    "image_only": "image only",
    "shuffled_images": "shuffled images",
    "untrained": "untrained model",
    "majority": "best constant answer",
    "chance": "chance",
}


@dataclass
class Row:
    """A line of a table."""

    label: str
    values: dict[str, float] = field(default_factory=dict)
    """Metric -> value in 0 .. 1."""
    count: int | None = None
    """Queries."""


@dataclass
class SplitTable:
    """One split: its own line, its controls, its groups."""

    name: str
    own: Row
    controls: dict[str, Row] = field(default_factory=dict)
    groups: dict[str, Row] = field(default_factory=dict)
    """By "topic=capital"."""
    group_by: str | None = None


@dataclass
class BenchmarkTable:
    """One benchmark."""

    prefix: str
    splits: dict[str, SplitTable] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Its entry in evaluation.json."""

    @property
    def metrics(self) -> list[str]:
        """All metrics of its lines, recall first."""
        return sorted_metrics(name for split in self.splits.values() for name in split.own.values)


def tables(metrics: Mapping[str, float], benchmarks: Sequence[Mapping[str, Any]] = ()) -> list[BenchmarkTable]:
    """All benchmarks in `metrics`; with `benchmarks` (of evaluation.json) in their order, with titles and counts."""
    facts = {entry["prefix"]: entry for entry in benchmarks}
    found: dict[str, BenchmarkTable] = {
        prefix: BenchmarkTable(prefix, {name: _split(name, part) for name, part in entry["splits"].items()}, entry)
        for prefix, entry in facts.items()
    }
    for full_name, value in metrics.items():
        name = MetricName.parse(full_name)
        if name is None:
            continue
        table = found.setdefault(name.benchmark, BenchmarkTable(name.benchmark))
        split = table.splits.setdefault(name.split, _split(name.split, {}))
        if name.group is not None:
            key, _, label = name.group.partition("=")
            split.group_by = key
            row = split.groups.setdefault(name.group, Row(label))
        elif name.control is not None:
            row = split.controls.setdefault(name.control, Row(CONTROL_LABELS[name.control], count=split.own.count))
        else:
            row = split.own
        row.values[name.metric] = value
    for table in found.values():
        table.splits = {name: split for name, split in table.splits.items() if split.own.values or split.controls}
        for split in table.splits.values():
            split.controls = {name: split.controls[name] for name in CONTROL_LABELS if name in split.controls}
            split.groups = {name: row for name, row in split.groups.items() if row.values}
    return [table for table in found.values() if table.splits]


def sorted_metrics(names: Iterable[str]) -> list[str]:
    """Each once, in the order of `METRICS`, then by cut-off."""

    def place(name: str) -> tuple[int, int, str]:
        stem, _, cut = name.partition("@")
        kinds = list(METRICS)
        return kinds.index(stem) if stem in kinds else len(kinds), int(cut) if cut.isdigit() else 0, name

    return sorted(dict.fromkeys(names), key=place)


def percent(value: float) -> str:
    """A value in 0 .. 1 as a percentage: one decimal, two below one percent."""
    shown = 100 * value
    return f"{shown:.2f}" if 0 < shown < 0.995 else f"{shown:.1f}"


def metric_label(name: str, short: bool = False) -> str:
    """A metric as people write it: Pseudo-recall@5, or PR@5."""
    stem, at, cut = name.partition("@")
    return _LABELS.get(stem, (stem, stem))[short] + at + cut


_LABELS = {
    "recall": ("Recall", "R"),
    "pseudo_recall": ("Pseudo-recall", "PR"),
    "precision": ("Precision", "P"),
    "ndcg": ("nDCG", "nDCG"),
    "mrr": ("MRR", "MRR"),
    "accuracy": ("Accuracy", "Acc."),
    "vqa_score": ("VQA score", "VQA"),
}


def _split(name: str, facts: Mapping[str, Any]) -> SplitTable:
    table = SplitTable(name, Row(str(facts.get("title") or name), count=facts.get("queries")))
    table.group_by = facts.get("group_by")
    for label, count in facts.get("groups", {}).items():
        table.groups[f"{table.group_by}={label}"] = Row(label, count=count)
    return table
