"""Variants against each other: values with intervals, who is best where, and what cannot be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mmret.errors import ConfigError
from mmret.evaluation.compare.variant import Origin, Variant
from mmret.evaluation.interval import Interval, interval, paired
from mmret.evaluation.names import MetricName, nearest
from mmret.evaluation.statistics import against_best
from mmret.evaluation.tables import BenchmarkTable, metric_label, tables


@dataclass(frozen=True)
class Measure:
    """One metric on one split."""

    benchmark: str
    split: str
    metric: str

    @property
    def name(self) -> str:
        """As in metrics.json."""
        return f"{self.benchmark}/{self.split}/{self.metric}"

    @property
    def place(self) -> str:
        """ "flags/heldout"."""
        return f"{self.benchmark}/{self.split}"

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.place} {metric_label(self.metric)}"


@dataclass(frozen=True)
class Cell:
    """A variant's value, mean over its seeds, in 0 .. 1."""

    value: float
    interval: Interval | None = None
    """None: no values of single queries were kept."""
    best: bool = False
    worse: bool = False
    """Than the best of the same measure: a paired test, corrected for the number of variants, tells them apart."""


class Comparison:
    """Variants and all that is known of them.

    Args:
        variants: with names of their own; at least one has runs.
        origin: what the bench said, if there was one.
        compare: names of two variants to put side by side; None: the best two.

    Raises:
        ConfigError: no variant is finished, no two of them share a measure, or `compare` names an unknown one.
    """

    def __init__(self, variants: Sequence[Variant], origin: Origin | None = None, compare: Sequence[str] | None = None):
        self.variants, self.origin = list(variants), origin or Origin()
        self.finished = [variant for variant in self.variants if variant.runs]
        if not self.finished:
            told = "; ".join(f"{v.name}: {f.status} {f.error}".strip() for v in self.variants for f in v.failures)
            raise ConfigError(f"nothing to compare: no variant is finished ({told or 'there is none'})")
        self.measures = self._measures()
        """One for each split: its main metric."""
        self._cells: dict[str, dict[str, Cell]] = {}
        self.headline = self._headline()
        """What variants are judged by."""
        self.pair = self._pair(compare)
        """Two variants to put side by side; None: there are no two with the headline's measure."""

    def cell(self, variant: Variant, measure: Measure) -> Cell | None:
        """None: it was not measured on that."""
        return self.cells(measure).get(variant.name)

    def cells(self, measure: Measure) -> Mapping[str, Cell]:
        """All that were measured on it, by variant."""
        if measure.name not in self._cells:
            self._cells[measure.name] = self._column(measure)
        return self._cells[measure.name]

    def difference(self, ours: Variant, theirs: Variant, measure: Measure) -> Interval | None:
        """Paired over the queries; None where single queries are not known or not the same."""
        a, b = self._matrix(ours, measure), self._matrix(theirs, measure)
        if a is None or b is None or a[0] != b[0]:
            return None
        return paired(a[1], b[1])

    @cached_property
    def ranked(self) -> list[Variant]:
        """Those with the headline's measure, best first."""
        cells = self.cells(self.headline)
        return sorted((v for v in self.finished if v.name in cells), key=lambda v: -cells[v.name].value)

    @cached_property
    def all_measures(self) -> list[Measure]:
        """Every metric of every split, for the CSV."""
        found = [
            Measure(table.prefix, split.name, metric)
            for table in self._tables
            for split in table.splits.values()
            for metric in table.metrics
        ]
        return [measure for measure in found if self.cells(measure)]

    def same_queries(self, measure: Measure) -> bool:
        """Whether all who were measured on it were asked the same, as far as their files tell."""
        asked = [self.asked(v, measure) for v in self.finished if _value(v, measure) is not None]
        return len({number for number, _ in asked if number}) < 2 and len({ids for _, ids in asked if ids}) < 2

    def asked(self, variant: Variant, measure: Measure) -> tuple[str, frozenset[str] | None]:
        """Numbers of queries and documents as a text ("" where not known), and the queries where known."""
        entries = [e for e in variant.runs[0].benchmarks if e["prefix"] == measure.benchmark]
        facts = next((entry["splits"].get(measure.split, {}) for entry in entries), {})
        counts = [(facts.get("queries"), "queries"), (entries[0].get("documents") if entries else None, "documents")]
        matrix = self._matrix(variant, Measure(measure.benchmark, measure.split, measure.metric))
        text = ", ".join(f"{number:,} {noun}" for number, noun in counts if number)
        return text, frozenset(matrix[0]) if matrix else None

    @cached_property
    def _tables(self) -> list[BenchmarkTable]:
        """Of all finished variants together; titles are those of the first that has them."""
        metrics = {
            name: value for v in reversed(self.finished) for run in v.runs for name, value in run.metrics.items()
        }
        facts = {e["prefix"]: e for v in reversed(self.finished) for run in v.runs for e in run.benchmarks}
        ordered = {e["prefix"]: facts[e["prefix"]] for v in self.finished for run in v.runs for e in run.benchmarks}
        return tables(metrics, tuple(ordered.values()))

    def _measures(self) -> list[Measure]:
        wanted = self.origin.primary.rpartition("/")[2]
        found = []
        for table in self._tables:
            for split in table.splits.values():
                if split.own.values:
                    metrics = [name for name in table.metrics if name in split.own.values]
                    found.append(Measure(table.prefix, split.name, wanted if wanted in metrics else metrics[0]))
        shared = [measure for measure in found if sum(_value(v, measure) is not None for v in self.finished) > 1]
        if len(self.finished) > 1 and not shared:
            measured = "; ".join(f"{v.name}: {_places(v) or 'nothing'}" for v in self.finished)
            raise ConfigError(
                f"nothing in common to compare ({measured}); `mmret evaluate` measures a checkpoint on other benchmarks"
            )
        if not found:
            raise ConfigError(f"nothing to compare: {self.finished[0].name} was measured on no benchmark")
        return found

    def _headline(self) -> Measure:
        """The bench's primary metric; else, of those that most variants have, the first benchmark's gallery split."""
        primary = self.origin.primary
        for measure in self.measures:
            if measure.name == primary or primary.endswith("/" + measure.name):
                return measure
        counts = {m: sum(_value(v, m) is not None for v in self.finished) for m in self.measures}
        most = [measure for measure in self.measures if counts[measure] == max(counts.values())]
        shown = {(table.prefix, str(table.facts.get("gallery"))) for table in self._tables}
        return next((measure for measure in most if (measure.benchmark, measure.split) in shown), most[0])

    def _pair(self, names: Sequence[str] | None) -> tuple[Variant, Variant] | None:
        if names is None:
            return (self.ranked[0], self.ranked[1]) if len(self.ranked) > 1 else None
        by_name = {variant.name: variant for variant in self.finished}
        for name in names:
            if name not in by_name:
                raise ConfigError(
                    f"--compare {' '.join(names)}: no finished variant {name!r}; {nearest(name, by_name)}"
                )
        if names[0] == names[1]:
            raise ConfigError(f"--compare {' '.join(names)}: two different variants are wanted")
        return by_name[names[0]], by_name[names[1]]

    def _column(self, measure: Measure) -> dict[str, Cell]:
        values = {v.name: value for v in self.finished if (value := _value(v, measure)) is not None}
        matrices = {v.name: found for v in self.finished if v.name in values and (found := self._matrix(v, measure))}
        top = max(values.values(), default=0.0)
        best = [name for name in values if values[name] == top]
        if len(values) < 2 or top == 0 or not self.same_queries(measure):
            best = []
        tests = {}
        if measure in self.measures and best and best[0] in matrices:
            tests = against_best({name: matrix for name, (_, matrix) in matrices.items()})
        return {
            name: Cell(
                values[name],
                interval(matrices[name][1]) if name in matrices else None,
                name in best,
                name in tests and tests[name].differs,
            )
            for name in values
        }

    def _matrix(self, variant: Variant, measure: Measure) -> tuple[list[str], NDArray[np.float64]] | None:
        """Ids of the queries, sorted, and their values [S, Q]; None unless all seeds were asked the same."""
        columns = [seed.get((measure.benchmark, measure.split, measure.metric), {}) for seed in variant.queries]
        ids = sorted(columns[0])
        if not ids or any(column.keys() != columns[0].keys() for column in columns[1:]):
            return None
        return ids, np.array([[column[id] for id in ids] for column in columns])


def _value(variant: Variant, measure: Measure) -> float | None:
    """Mean over seeds; None unless each has it."""
    values = [run.metrics.get(measure.name) for run in variant.runs]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _places(variant: Variant) -> str:
    parsed: Iterable[MetricName | None] = (MetricName.parse(name) for run in variant.runs for name in run.metrics)
    return ", ".join(dict.fromkeys(f"{part.benchmark}/{part.split}" for part in parsed if part))
