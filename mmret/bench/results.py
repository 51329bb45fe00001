"""results.json: how far each run is, what it reached and cost; who is surely worse than the best."""

from __future__ import annotations

import csv
import gzip
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mmret
from mmret.bench.config import Bench
from mmret.bench.cost import COST_FILE
from mmret.bench.job import Job
from mmret.bench.per_query import PER_QUERY_FILE
from mmret.bench.sweep import pick
from mmret.evaluation.interval import interval
from mmret.evaluation.result import METRICS_FILE
from mmret.evaluation.statistics import against_best
from mmret.recipe.resolved import plain
from mmret.recipe.shipped import shown

RESULTS_FILE = "results.json"


def write_results(bench: Bench, jobs: Sequence[Job], primary: str, validation: Sequence[str] = ()) -> dict[str, Any]:
    """Write what all folders say now; returns it.

    Args:
        jobs: all of the grid, run by this process or not.
        primary: as metrics.json has it.
        validation: metrics that a sweep is picked by.
    """
    entries = [_entry(job) for job in jobs]
    sweep = pick(entries, validation)
    for entry in entries:
        if entry["sweep_of"]:
            entry["picked"] = sweep[entry["sweep_of"]]["picked"] == entry["name"]
    results = {
        "version": 1,
        "name": bench.name,
        "size": bench.size,
        "budget": {bench.budget.kind: bench.budget.amount} if bench.budget else None,
        "seeds": bench.seeds,
        "primary": primary,
        "environment": _environment(),
        "sweep": sweep,
        "statistics": _statistics(jobs, entries, primary),
        "variants": entries,
    }
    out = Path(bench.out)
    out.mkdir(parents=True, exist_ok=True)
    part = out / f"{RESULTS_FILE}.{os.getpid()}.part"  # tasks of an array may end together
    part.write_text(json.dumps(results, indent=1) + "\n")
    os.replace(part, out / RESULTS_FILE)
    return results


def counted(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the variants that are compared: of a sweep the picked ones alone."""
    return list(dict.fromkeys(entry["name"] for entry in entries if entry.get("picked", True)))


def _entry(job: Job) -> dict[str, Any]:
    status = job.status
    done = status == "finished"
    return {
        "name": job.variant.name,
        "seed": job.seed,
        "status": status,
        "error": (job.error or "").partition("\n")[0] or None,
        "metrics": _json(job.folder / METRICS_FILE) if done else {},
        "cost": _json(job.folder / COST_FILE) if done else {},
        "folder": str(job.folder.relative_to(job.bench.out)),
        "recipe": shown(job.variant.file),
        "overrides": list(job.variant.overrides),
        "share": job.variant.share,
        "environ": plain(job.variant.environ),
        "data_differs": job.variant.data_differs,
        "sweep_of": job.variant.sweep_of,
        "settings": plain(job.variant.settings),
    }


def _statistics(jobs: Sequence[Job], entries: Sequence[Mapping[str, Any]], primary: str) -> dict[str, Any]:
    """Of the primary metric: mean with interval, and the corrected p-value of the difference to the best."""
    values = {}
    for name in counted(entries):
        mine = [job for job in jobs if job.variant.name == name and job.status == "finished"]
        columns = [_column(job.folder / PER_QUERY_FILE, primary) for job in mine]
        asked = set.intersection(*(set(column) for column in columns)) if columns else set()
        if asked:
            values[name] = {query: np.array([column[query] for column in columns]) for query in sorted(asked)}
    shared = sorted(set.intersection(*(set(found) for found in values.values()))) if values else []
    if not shared:
        return {}
    matrices = {name: np.stack([found[query] for query in shared], axis=1) for name, found in values.items()}
    tests = against_best(matrices)
    found = {}
    for name, matrix in matrices.items():
        bounds = interval(matrix)
        found[name] = {
            "mean": bounds.mean,
            "low": bounds.low,
            "high": bounds.high,
            "seeds": matrix.shape[0],
            "queries": matrix.shape[1],
            **vars(tests[name]),
        }
    return found


def _column(file: Path, metric: str) -> dict[str, float]:
    benchmark, split, name = metric.rsplit("/", 2)
    with gzip.open(file, "rt", newline="", encoding="utf-8") as lines:
        return {
            row["query"]: float(row["value"])
            for row in csv.DictReader(lines)
            if (row["benchmark"], row["split"], row["metric"]) == (benchmark, split, name)
        }


def _environment() -> dict[str, Any]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    versions = {"mmret": mmret.__version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in ("torch", "lightning", "transformers", "timm")}
    return {"versions": versions, "machine": f"{device}, {torch.get_num_threads()} CPU threads"}


def _json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}
