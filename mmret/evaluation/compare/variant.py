"""Variants: what is compared. One of `mmret bench` has a run for each seed; an ordinary run is a variant of its own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mmret.errors import CheckpointError, ConfigError
from mmret.evaluation.compare.cost import cost_of, mean_cost
from mmret.evaluation.compare.diff import flat_recipe
from mmret.evaluation.compare.queries import QueryValues, read_queries
from mmret.evaluation.record import RunRecord
from mmret.evaluation.result import METRICS_FILE

RESULTS_FILE = "results.json"
COST_FILE = "cost.json"


@dataclass(frozen=True)
class Failure:
    """A seed that has no numbers."""

    seed: int | None
    status: str
    """failed | missing"""
    error: str


@dataclass(frozen=True)
class Variant:
    """What is compared: the finished runs of one recipe, over seeds."""

    name: str
    runs: tuple[RunRecord, ...] = ()
    failures: tuple[Failure, ...] = ()
    cost: Mapping[str, float] = field(default_factory=dict)
    data_differs: bool = False
    """It was trained on other data than the rest."""

    @cached_property
    def queries(self) -> list[QueryValues]:
        """Of each run, values of single queries."""
        return [read_queries(run) for run in self.runs]

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """The first run's resolved recipe by dotted key; empty where it has none."""
        return flat_recipe(self.runs[0].recipe) if self.runs else {}

    @property
    def seeds(self) -> str:
        """How many are finished, of how many."""
        done, all_of_them = len(self.runs), len(self.runs) + len(self.failures)
        return str(done) if done == all_of_them else f"{done} of {all_of_them}"


@dataclass(frozen=True)
class Origin:
    """What a bench folder says of all its variants."""

    name: str = ""
    budget: str = ""
    primary: str = ""
    """The metric by which it judges."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    sweeps: tuple[str, ...] = ()
    """What was picked of each sweep, as sentences."""


def read_variants(folders: Sequence[str | Path]) -> tuple[list[Variant], Origin]:
    """Variants of bench folders and ordinary runs, each with a name of its own.

    Raises:
        ConfigError: no such folder, or it is neither a bench nor a run.
        CheckpointError: a file in it is broken.
    """
    found: list[Variant] = []
    origin = Origin()
    for folder in map(Path, folders):
        if is_bench(folder):
            variants, said = _bench(folder)
            origin = origin if origin.name else said
        else:
            variants = [_single(folder)]
        found.extend(variants)
    return _told_apart(found), origin


def is_bench(folder: Path) -> bool:
    """Whether `mmret bench` wrote it.

    Raises:
        ConfigError: no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"{folder}: no such folder; a run's folder is what `mmret run` or `mmret bench` names at its end"
        )
    return (folder / RESULTS_FILE).is_file()


def _single(folder: Path) -> Variant:
    if not any((inner / METRICS_FILE).is_file() for inner in (folder, folder / "evaluation")):
        raise ConfigError(
            f"{folder}: neither a run (no {METRICS_FILE}) nor a bench (no {RESULTS_FILE}); "
            "`mmret run` and `mmret bench` write them when they end"
        )
    run = RunRecord.read(folder)
    return Variant(run.name, (run,), cost=_cost(run, {}))


def _bench(folder: Path) -> tuple[list[Variant], Origin]:
    file = folder / RESULTS_FILE
    try:
        results = json.loads(file.read_text("utf-8"))
        entries = [dict(entry) for entry in results["variants"]]
        # Of a sweep only what was picked on validation is compared: to choose here would be to choose on the test set.
        entries = [entry for entry in entries if entry.get("picked", True) or entry.get("status") != "finished"]
        names = [str(entry["name"]) for entry in entries]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{file}: no results of `mmret bench` ({type(error).__name__}: {error}); run it again, done runs are kept"
        ) from error
    variants = []
    for name in dict.fromkeys(names):
        runs, costs, failures = [], [], []
        mine = [entry for entry, other in zip(entries, names) if other == name]
        for entry in mine:
            if entry.get("status") != "finished":
                status = str(entry.get("status") or "missing")
                failures.append(Failure(entry.get("seed"), status, str(entry.get("error") or "")))
                continue
            run = RunRecord.read(_run_folder(folder, entry))
            runs.append(run)
            costs.append(_cost(run, entry.get("cost") or {}))
        differs = any(entry.get("data_differs") for entry in mine)
        variants.append(Variant(name, tuple(runs), tuple(failures), mean_cost(costs), differs))
    environment = results.get("environment") or {}
    origin = Origin(
        str(results.get("name") or folder.name),
        _said(results.get("budget")),
        str(results.get("primary") or ""),
        environment if isinstance(environment, Mapping) else {},
        tuple(_sweep(name, found) for name, found in (results.get("sweep") or {}).items()),
    )
    return variants, origin


def _sweep(name: str, found: Mapping[str, Any]) -> str:
    by = ", ".join(found.get("by", ()))
    if not found.get("picked"):
        return f"{name}: no setting of the sweep has all its seeds, so none was picked by {by}."
    others = [other for other in found.get("values", {}) if other != found["picked"]]
    return f"{found['picked']} was picked by {by}; not compared: {', '.join(others) or 'none'}."


def _run_folder(bench: Path, entry: Mapping[str, Any]) -> Path:
    """Where the run lies: inside the bench, which may have been moved since."""
    inside = bench / str(entry["name"]) / f"seed-{entry.get('seed')}"
    named = Path(str(entry.get("folder") or inside))
    return next((path for path in (bench / named, inside, named) if path.is_dir()), inside)


def _cost(run: RunRecord, said: Mapping[str, Any]) -> dict[str, float]:
    """By falling trust: what results.json says, cost.json, the stages' own records."""
    file = run.folder / COST_FILE
    try:
        measured = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise CheckpointError(f"{file}: not JSON ({error}); run the bench again") from error
    known = {key: value for source in (measured, said) for key, value in source.items() if value is not None}
    return mean_cost([cost_of(run) | known])


def _told_apart(variants: Iterable[Variant]) -> list[Variant]:
    """Runs of one name are called by their folders, and where these are alike too, by number."""
    listed = list(variants)
    names = [variant.name for variant in listed]
    named = [
        v.runs[0].folder.resolve().name if names.count(v.name) > 1 and len(v.runs) == 1 and not v.failures else v.name
        for v in listed
    ]
    return [
        replace(v, name=name if named.count(name) == 1 else f"{name} ({named[: number + 1].count(name)})")
        for number, (v, name) in enumerate(zip(listed, named))
    ]


def _said(value: Any) -> str:
    """Facts of any shape as a line for people."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_said(inner)}" for key, inner in value.items() if inner not in (None, "", [], {}))
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_said, value))
    if isinstance(value, bool) or value is None:
        return "yes" if value else ""
    if isinstance(value, (int, float)):
        return f"{value:,.0f}" if float(value).is_integer() else f"{value:,}"
    return str(value)
