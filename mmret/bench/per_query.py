"""Values of single queries as a table that anything opens: benchmark, split, query, metric, value."""

from __future__ import annotations

import csv
import gzip
import io
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mmret.errors import CheckpointError
from mmret.evaluation.result import QUERIES_FILE

PER_QUERY_FILE = "per_query.csv.gz"
HEAD = ("benchmark", "split", "query", "metric", "value")


def write_per_query(folder: Path) -> Path:
    """From a run's `queries.parquet`: all metrics of all queries as they are, without the controls.

    Raises:
        CheckpointError: the run was not evaluated.
    """
    source = folder / QUERIES_FILE
    if not source.is_file():
        raise CheckpointError(f"{folder}: no {QUERIES_FILE}; `mmret run` writes it at its end")
    table = pq.read_table(source)
    metrics = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(HEAD)
    for row in table.to_pylist():
        if row["control"] is None:
            for metric in metrics:
                if row[metric] is not None:
                    rows.writerow([row["benchmark"], row["split"], row["query"], metric, f"{row[metric]:.9g}"])
    file = folder / PER_QUERY_FILE
    part = file.with_name(f"{PER_QUERY_FILE}.part")
    part.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
    os.replace(part, file)
    return file
