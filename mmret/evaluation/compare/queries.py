"""Values of single queries, as a run keeps them: what intervals and pairs are made from."""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mmret.errors import CheckpointError
from mmret.evaluation.record import RunRecord
from mmret.evaluation.result import QUERIES_FILE

BENCH_FILE = "per_query.csv.gz"
"""Written by `mmret bench`: benchmark, split, query, metric, value."""
_COLUMNS = ("benchmark", "split", "query", "metric", "value")
_FACTS = {"benchmark", "split", "control", "query", "group", "first_place", "prediction"}

QueryValues = Mapping[tuple[str, str, str], Mapping[str, float]]
"""(benchmark, split, metric) -> query -> value in 0 .. 1. Queries without a value are left out."""


def read_queries(run: RunRecord) -> QueryValues:
    """From `queries.parquet`, or from `per_query.csv.gz` beside it; empty where a run has neither.

    Raises:
        CheckpointError: the file is broken.
    """
    table, sheet = run.rankings / QUERIES_FILE, run.folder / BENCH_FILE
    file = table if table.is_file() else sheet
    if not file.is_file():
        return {}
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    try:
        for benchmark, split, query, metric, value in _from_table(table) if file == table else _from_sheet(sheet):
            if math.isfinite(value):
                found.setdefault((benchmark.rpartition("/")[2], split, metric), {})[query] = value
    except (OSError, KeyError, ValueError) as error:
        raise CheckpointError(f"{file}: no values of single queries ({error}); run the evaluation again") from error
    return found


def _from_table(file: Path) -> Iterator[tuple[str, str, str, str, float]]:
    table = pq.read_table(file)
    metrics = [name for name in table.column_names if name not in _FACTS]
    columns: dict[str, list[Any]] = {name: table.column(name).to_pylist() for name in table.column_names}
    for row, control in enumerate(columns["control"]):
        if control is None:
            for metric in metrics:
                value = columns[metric][row]
                if value is not None:
                    yield columns["benchmark"][row], columns["split"][row], columns["query"][row], metric, value


def _from_sheet(file: Path) -> Iterator[tuple[str, str, str, str, float]]:
    with gzip.open(file, "rt", newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            benchmark, split, query, metric, value = (row[name] for name in _COLUMNS)
            if value:
                yield benchmark, split, query, metric, float(value)
