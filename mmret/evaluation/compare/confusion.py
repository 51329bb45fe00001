"""Who loses what: groups of a split by variant, and two variants' queries by who had them right."""

from __future__ import annotations

from dataclasses import dataclass

from mmret.evaluation.compare.comparison import Comparison, Measure
from mmret.evaluation.compare.variant import Variant
from mmret.evaluation.names import MetricName
from mmret.evaluation.tables import tables


@dataclass(frozen=True)
class GroupLine:
    """One group of a split."""

    label: str
    count: int | None
    values: tuple[float | None, ...]
    """Of each variant, in 0 .. 1."""

    @property
    def best(self) -> float:
        """The highest value."""
        return max((value for value in self.values if value is not None), default=0.0)

    def lost(self, place: int) -> float:
        """How far a variant stands behind the best one, in 0 .. 1."""
        value = self.values[place]
        return 0.0 if value is None else self.best - value


@dataclass(frozen=True)
class GroupTable:
    """Groups of a split over variants."""

    measure: Measure
    field: str
    variants: tuple[str, ...]
    lines: tuple[GroupLine, ...]
    """Those first in which variants differ most."""


@dataclass(frozen=True)
class Agreement:
    """Queries of a split by which of two variants had them right (value 1 in at least half of the seeds)."""

    measure: Measure
    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def queries(self) -> int:
        """All."""
        return self.both + self.only_first + self.only_second + self.neither


def group_tables(comparison: Comparison) -> list[GroupTable]:
    """One for each split that is grouped and that any variant has."""
    names = tuple(variant.name for variant in comparison.finished)
    found = []
    for measure in comparison.measures:
        wanted = {
            name: part
            for variant in comparison.finished
            for run in variant.runs
            for name in run.metrics
            if (part := MetricName.parse(name)) and part.group and not part.control
            if (part.benchmark, part.split, part.metric) == (measure.benchmark, measure.split, measure.metric)
        }
        counts = _counts(comparison, measure)
        lines = []
        for name, part in wanted.items():
            label = str(part.group).partition("=")[2]
            values = tuple(_mean(variant, name) for variant in comparison.finished)
            lines.append(GroupLine(label, counts.get(label), values))
        if lines:
            field = str(next(iter(wanted.values())).group).partition("=")[0]
            lines.sort(key=lambda line: (-max(map(line.lost, range(len(names)))), line.label))
            found.append(GroupTable(measure, field, names, tuple(lines)))
    return found


def agreements(comparison: Comparison, ours: Variant, theirs: Variant) -> list[Agreement]:
    """For each split on which both were asked the same queries."""
    found = []
    for measure in comparison.measures:
        a, b = _right(ours, measure), _right(theirs, measure)
        if a and a.keys() == b.keys():
            pairs = [(a[query], b[query]) for query in a]
            counts = [pairs.count(kind) for kind in ((True, True), (True, False), (False, True), (False, False))]
            found.append(Agreement(measure, *counts))
    return found


def _right(variant: Variant, measure: Measure) -> dict[str, bool]:
    seeds = [values.get((measure.benchmark, measure.split, measure.metric), {}) for values in variant.queries]
    asked = seeds[0].keys()
    if any(seed.keys() != asked for seed in seeds):
        return {}
    return {query: 2 * sum(seed[query] >= 1 for seed in seeds) >= len(seeds) for query in asked}


def _mean(variant: Variant, name: str) -> float | None:
    values = [run.metrics[name] for run in variant.runs if name in run.metrics]
    return sum(values) / len(values) if len(values) == len(variant.runs) else None


def _counts(comparison: Comparison, measure: Measure) -> dict[str, int]:
    for variant in comparison.finished:
        for table in tables(variant.runs[0].metrics, variant.runs[0].benchmarks):
            if table.prefix == measure.benchmark and measure.split in table.splits:
                rows = table.splits[measure.split].groups.values()
                return {row.label: row.count for row in rows if row.count}
    return {}
