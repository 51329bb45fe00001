"""A run's folder as a report reads it: numbers, stages, logs, and how it was made. Whatever is missing stays empty."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from mmret.errors import CheckpointError
from mmret.evaluation.result import METRICS_FILE, STRUCTURE_FILE

EVALUATION_FOLDER = "evaluation"


@dataclass(frozen=True)
class StageRecord:
    """One stage: its `stage.json` and its `metrics.csv`."""

    name: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    """steps, seconds, samples_per_s, parameters, trainable, handover {kind: [names]}, metrics {name: value}."""
    section: Mapping[str, Any] = field(default_factory=dict)
    """Of the resolved recipe."""
    log: Mapping[str, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    """Column of the log -> (step, value)."""

    @property
    def steps(self) -> int:
        """Optimizer steps; as far as the log goes where the stage is not finished."""
        logged = [step for series in self.log.values() for step, _ in series]
        return int(self.facts.get("steps") or max(logged, default=0))

    def series(self, name: str) -> list[tuple[int, float]]:
        """A logged value over the stage's steps; what was measured at the stage's end closes it."""
        points = dict(self.log.get(name, ()))
        if name in self.facts.get("metrics", {}):
            points[self.steps] = self.facts["metrics"][name]
        return sorted(points.items())


@dataclass(frozen=True)
class RunRecord:
    """Everything about one run. A report over several runs takes several of these."""

    folder: Path
    name: str
    metrics: Mapping[str, float]
    benchmarks: tuple[Mapping[str, Any], ...] = ()
    """From evaluation.json."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """When and with what it was evaluated."""
    stages: tuple[StageRecord, ...] = ()
    command: str = ""
    recipe: str = ""
    """YAML text."""
    gallery: int = 24
    """Questions to show."""

    @property
    def rankings(self) -> Path:
        """Folder of the run files."""
        inner = self.folder / EVALUATION_FOLDER
        return inner if (inner / STRUCTURE_FILE).is_file() else self.folder

    @classmethod
    def read(cls, folder: str | Path) -> RunRecord:
        """Read a run's folder, or one that `Evaluation.write` wrote.

        Raises:
            CheckpointError: it has no metrics.json, or a file in it is broken.
        """
        folder = Path(folder)
        inner = folder / EVALUATION_FOLDER
        file = next((f for f in (folder / METRICS_FILE, inner / METRICS_FILE) if f.is_file()), None)
        if file is None:
            raise CheckpointError(
                f"{folder}: no {METRICS_FILE}; `mmret run` writes it after the last stage, `mmret evaluate --out` too"
            )
        structure = _json(inner / STRUCTURE_FILE) or _json(folder / STRUCTURE_FILE)
        environment = dict(structure.get("environment", {}))
        if "measured" not in environment:
            written = datetime.fromtimestamp(file.stat().st_mtime, timezone.utc)
            environment["measured"] = written.isoformat(timespec="seconds")
        recipe_file = folder / "recipe.yaml"
        text = recipe_file.read_text("utf-8") if recipe_file.is_file() else ""
        recipe = OmegaConf.to_container(OmegaConf.create(text)) if text else {}
        assert isinstance(recipe, dict)
        argv = _json(folder / "command.json").get("argv")
        return cls(
            folder,
            str(recipe.get("name", folder.resolve().name)),
            _json(file),
            tuple(structure.get("benchmarks", ())),
            environment,
            _stages(folder, [dict(section) for section in recipe.get("stages", ())]),
            f"mmret {' '.join(argv)}" if argv else "",
            text,
            int(recipe.get("gallery", 24)),
        )


def _stages(folder: Path, sections: list[dict[str, Any]]) -> tuple[StageRecord, ...]:
    """Those of the recipe, in its order; without a recipe, those with a stage.json, oldest first."""
    found = sorted(folder.glob("*/stage.json"), key=lambda path: path.stat().st_mtime)
    by_name = {str(section.get("name")): section for section in sections}
    names = [*by_name] or [path.parent.name for path in found]
    stages = []
    for name in names:
        facts, log = _json(folder / name / "stage.json"), read_log(folder / name / "metrics.csv")
        if facts or log:
            stages.append(StageRecord(name, facts, by_name.get(name, {}), log))
    return tuple(stages)


def read_log(file: Path) -> dict[str, tuple[tuple[int, float], ...]]:
    """Columns of a Lightning CSV log; a cell may be empty."""
    columns: dict[str, list[tuple[int, float]]] = {}
    if file.is_file():
        with file.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                for name, cell in row.items():
                    if name and cell and name not in ("step", "epoch") and row.get("step"):
                        columns.setdefault(name, []).append((int(row["step"]), float(cell)))
    return {name: tuple(points) for name, points in columns.items()}


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        return json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file}: not JSON ({error}); run the evaluation again") from error
