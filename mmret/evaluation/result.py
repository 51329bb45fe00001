"""What an evaluation found: rankings, per-query values, means; and the files they are kept in."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

import mmret
from mmret.evaluation.split import QuerySplit
from mmret.evaluation.submission import write_submission
from mmret.evaluation.trec import write_qrels, write_run
from mmret.ops import rank_and_world

METRICS_FILE = "metrics.json"
STRUCTURE_FILE = "evaluation.json"
QUERIES_FILE = "queries.parquet"


@dataclass(frozen=True)
class SplitResult:
    """One split of a benchmark, measured once."""

    split: QuerySplit
    control: str | None
    metrics: dict[str, float]
    """Named "recall@1" and, per group, "topic=capital/recall@1"."""
    per_query: dict[str, Tensor]
    """Metric -> [Q] float64; NaN where a query has no value."""
    scores: Tensor | None = None
    """[Q, R] of the documents retrieved, best first; None for chance."""
    rows: Tensor | None = None
    """[Q, R] their rows in the corpus; -1 behind the last where a query has fewer candidates of its own."""
    first_places: Tensor | None = None
    """[Q] place of the first relevant document, from 1; 0: not retrieved."""
    predictions: Tensor | None = None
    """[Q] int64 classes, of a classification."""

    @property
    def prefix(self) -> str:
        """ "flags/heldout", "flags/heldout/question_only"."""
        return "/".join(filter(None, (self.split.benchmark.prefix, self.split.name, self.control)))

    def flat(self) -> dict[str, float]:
        """The metrics under their full names."""
        return {f"{self.prefix}/{name}": value for name, value in self.metrics.items()}


@dataclass(frozen=True)
class Evaluation:
    """All that one model was measured on."""

    results: tuple[SplitResult, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall-clock time by benchmark."""

    @property
    def metrics(self) -> dict[str, float]:
        """All metrics by their full names ("flags/heldout/recall@1"), in order of measuring."""
        return {name: value for result in self.results for name, value in result.flat().items()}

    def write(self, folder: str | Path) -> None:
        """Write metrics, per-query values and rankings; with several ranks only the first does.

        `metrics.json` (name -> number), `evaluation.json` (which benchmarks, splits, controls, groups),
        `queries.parquet` (a row per query, split and control: place of the first relevant document and each metric),
        `<benchmark>/<split>[.<control>].run` and `<split>.qrels` (TREC), or, of a classification,
        `<split>.predictions.json` or `.csv`.
        """
        if rank_and_world()[0]:
            return
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for result in self.results:
            if result.split.benchmark.classifies:
                _write_predictions(result, folder)
            else:
                _write_rankings(result, folder)
        _replace(folder / QUERIES_FILE, lambda path: pq.write_table(_per_query_table(self.results), path))
        structure = {"version": 1, "environment": _environment(), "benchmarks": self.benchmarks}
        _replace(folder / STRUCTURE_FILE, lambda path: path.write_text(json.dumps(structure, indent=1) + "\n"))
        # Last: who finds metrics.json finds the rest.
        _replace(folder / METRICS_FILE, lambda path: path.write_text(json.dumps(self.metrics, indent=1) + "\n"))

    @property
    def benchmarks(self) -> list[dict[str, Any]]:
        """What was measured: titles, numbers of queries and documents, groups, controls."""
        benchmarks: dict[str, Any] = {}
        for result in self.results:
            split, benchmark = result.split, result.split.benchmark
            entry = benchmarks.setdefault(
                benchmark.prefix,
                {
                    "name": benchmark.spec.name,
                    "prefix": benchmark.prefix,
                    "source": benchmark.source,
                    "description": benchmark.spec.description,
                    "documents": None if benchmark.classifies else len(benchmark.corpus),
                    "metrics": list(benchmark.spec.metrics),
                    "gallery": benchmark.spec.gallery,
                    "seconds": self.seconds.get(benchmark.spec.name),
                    "splits": {},
                },
            )
            part = entry["splits"].setdefault(split.name, {"controls": []})
            part.update(title=split.title, queries=len(split), group_by=split.group_by)
            part["groups"] = dict(sorted(Counter(query.group for query in split.queries if query.group).items()))
            if result.control:
                part["controls"].append(result.control)
        return list(benchmarks.values())


def _environment() -> dict[str, Any]:
    versions = {"mmret": mmret.__version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in ("torch", "lightning", "transformers", "timm")}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    threads = torch.get_num_threads()
    return {
        "measured": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": versions,
        "machine": ", ".join((device, _plural(threads, "CPU thread"), _plural(rank_and_world()[1], "process"))),
    }


def _plural(number: int, noun: str) -> str:
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{ending}"


def _write_rankings(result: SplitResult, folder: Path) -> None:
    split, corpus = result.split, result.split.benchmark.corpus
    stem = folder / split.benchmark.prefix / split.name
    ids = [query.id for query in split.queries]
    write_qrels(
        stem.with_name(f"{split.name}.qrels"),
        ids,
        [[corpus.id(row) for row in query.relevant] for query in split.queries],
        None if split.grades is None else [query.grades or () for query in split.queries],
    )
    if result.rows is not None and result.scores is not None:
        name = f"{split.name}.{result.control}.run" if result.control else f"{split.name}.run"
        documents = [[corpus.id(row) for row in rows if row >= 0] for rows in result.rows.tolist()]
        write_run(stem.with_name(name), ids, documents, result.scores.tolist(), "mmret")


def _write_predictions(result: SplitResult, folder: Path) -> None:
    split = result.split
    if result.control is None and result.predictions is not None:
        names = split.benchmark.classes.names
        write_submission(
            folder / split.benchmark.prefix / f"{split.name}.predictions.{split.benchmark.spec.submission}",
            [query.id for query in split.queries],
            [names[number] for number in result.predictions.tolist()],
        )


def _per_query_table(results: Sequence[SplitResult]) -> pa.Table:
    names = list(dict.fromkeys(name for result in results for name in result.per_query))
    schema = pa.schema(
        [("benchmark", pa.string()), ("split", pa.string()), ("control", pa.string()), ("query", pa.string())]
        + [("group", pa.string()), ("first_place", pa.int32())]
        + [(name, pa.float64()) for name in names]
    )
    if any(result.predictions is not None for result in results):
        schema = schema.append(pa.field("prediction", pa.string()))
    rows = []
    for result in results:
        chosen = None if result.predictions is None else result.predictions.tolist()
        places = None if result.first_places is None else result.first_places.tolist()
        values = {name: column.tolist() for name, column in result.per_query.items()}
        for number, query in enumerate(result.split.queries):
            row: dict[str, Any] = {"benchmark": result.split.benchmark.prefix, "split": result.split.name}
            row.update(control=result.control, query=query.id, group=query.group)
            row["prediction"] = chosen and result.split.benchmark.classes.names[chosen[number]]
            row["first_place"] = places[number] or None if places else None
            row.update({name: None if (v := column[number]) != v else v for name, column in values.items()})
            rows.append(row)
    return pa.Table.from_pylist(rows, schema)


def _replace(path: Path, write: Any) -> None:
    part = path.with_name(path.name + ".part")
    write(part)
    part.replace(path)
