"""One run of the grid: a variant under a seed, in a folder of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmret.bench.config import Bench
from mmret.bench.variant import ResolvedVariant
from mmret.errors import ConfigError
from mmret.evaluation.result import METRICS_FILE
from mmret.recipe import read_recipe, recipe_fingerprint

JOB_FILE = "bench.json"
"""Written last into a run's folder: it is finished and measured, as these settings wanted it."""
ERROR_FILE = "error.txt"
Status = Literal["finished", "failed", "missing"]


@dataclass(frozen=True)
class Job:
    """A run; `overrides` are all but the budget's steps, which may have to be measured first."""

    bench: Bench
    variant: ResolvedVariant
    seed: int

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.variant.name} seed {self.seed}"

    @property
    def folder(self) -> Path:
        """The run's."""
        return Path(self.bench.out) / self.variant.name / f"seed-{self.seed}"

    @property
    def log(self) -> Path:
        """What the run said. Beside its folder, which must be empty or a run's."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def overrides(self, steps: Sequence[str]) -> list[str]:
        """All of them, with those of the budget."""
        own = [f"seed={self.seed}", f"name={self.bench.name}-{self.variant.name}", f"out={self.folder}"]
        return [*self.variant.overrides, *steps, *own]

    def settings(self, steps: Sequence[str]) -> dict[str, Any]:
        """What `JOB_FILE` holds: by what it is known whether a finished run is the one that is wanted."""
        overrides = self.overrides(steps)
        recipe = read_recipe(self.variant.file, overrides).recipe
        environ = {"environ": dict(self.variant.environ)} if self.variant.environ else {}
        return {"fingerprint": recipe_fingerprint(recipe), "primary": self.bench.primary, **environ}

    def is_finished(self, steps: Sequence[str]) -> bool:
        """Trained, measured and costed, as these settings want it."""
        file = self.folder / JOB_FILE
        return file.is_file() and json.loads(file.read_text("utf-8")) == self.settings(steps)

    def finish(self, steps: Sequence[str]) -> None:
        """Note that it is."""
        part = self.folder / f"{JOB_FILE}.part"
        part.write_text(json.dumps(self.settings(steps)))
        os.replace(part, self.folder / JOB_FILE)

    def fail(self, error: str) -> None:
        """Note why it ended."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / ERROR_FILE).write_text(error.rstrip() + "\n", "utf-8")

    def forget_failure(self) -> None:
        """Before another try: a run wants its folder empty, or as a run left it."""
        (self.folder / ERROR_FILE).unlink(missing_ok=True)

    @property
    def error(self) -> str | None:
        """Why it failed; None: it did not."""
        file = self.folder / ERROR_FILE
        return file.read_text("utf-8").strip() if file.is_file() else None

    @property
    def status(self) -> Status:
        """As its folder says."""
        if self.error is not None:
            return "failed"
        done = (self.folder / JOB_FILE).is_file() and (self.folder / METRICS_FILE).is_file()
        return "finished" if done else "missing"


def plan_jobs(bench: Bench, variants: Sequence[ResolvedVariant]) -> list[Job]:
    """Seeds outermost: stopped early, every variant has been run under some seed."""
    return [Job(bench, variant, seed) for seed in bench.seeds for variant in variants]


def slice_of(jobs: Sequence[Job], task: str | None) -> list[Job]:
    """The K-th of N slices ("1/9" .. "9/9"): every N-th job from the K-th on; all without `task`.

    Raises:
        ConfigError: it is not of that form.
    """
    if task is None:
        return list(jobs)
    number, slash, total = task.partition("/")
    if not (slash and number.isdecimal() and total.isdecimal() and 1 <= int(number) <= int(total)):
        raise ConfigError(f"--task {task}: want K/N with K from 1 to N, as in 2/9")
    return list(jobs[int(number) - 1 :: int(total)])
