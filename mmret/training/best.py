"""The models in which a metric was best so far (`trainer.keep_best`), as folders that everything opens."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_only
from safetensors import SafetensorError

from mmret.errors import CheckpointError, ConfigError
from mmret.evaluation.evaluator import Evaluator
from mmret.ops import rank_and_world
from mmret.recipe.problem import did_you_mean
from mmret.recipe.schema import Recipe, Stage
from mmret.training.checkpoints import FAILURES, PART, why_not_written

logger = logging.getLogger(__name__)

LIST = "best.json"


class BestModels:
    """Keeps `FOLDER/STEP` for the best steps, each complete or absent, and `best.json` with their values.

    Args:
        folder: of the models.
        metric: a name among the metrics; one that ends in "loss" is best where it is smallest.
        num: models kept; of equal ones the earlier.
    """

    def __init__(self, folder: Path, metric: str, num: int) -> None:
        self.folder, self.metric, self.num = folder, metric, num
        self.failures = 0
        self._sign = -1.0 if metric.endswith("loss") else 1.0
        self.kept = self._read()
        """Step -> value."""

    def offer(self, step: int, metrics: Mapping[str, float], save: Callable[[Path], None]) -> bool:
        """Save the model if it is one of the best; all ranks call this with the same metrics.

        Args:
            save: writes it into an empty folder; called on every rank, or on none.

        Raises:
            CheckpointError: several writes in a row failed.
        """
        value = metrics.get(self.metric)
        if value is None or math.isnan(value) or self.kept.get(step) == value:
            return False
        others = {other: score for other, score in self.kept.items() if other != step}
        ranking = sorted({**others, step: value}.items(), key=lambda one: (-self._sign * one[1], one[0]))
        best = dict(ranking[: self.num])
        if step not in best:
            return False
        part, failure = self.folder / f"{step:08d}{PART}", None
        try:
            if rank_zero_only.rank == 0:
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir(parents=True)
            save(part)
            if rank_zero_only.rank == 0:
                self._put(part, step, best)
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(part, ignore_errors=True)
            failure = why_not_written(self.folder, error)
        failure = _from_rank_0(failure)
        if failure is not None:
            self._failed(step, failure)
            return False
        self.failures, self.kept = 0, best
        return True

    def _put(self, part: Path, step: int, best: dict[int, float]) -> None:
        final = self.folder / f"{step:08d}"
        shutil.rmtree(final, ignore_errors=True)
        os.replace(part, final)
        listed = {"metric": self.metric, "kept": [{"step": s, "value": v} for s, v in best.items()]}
        file = self.folder / LIST
        aside = file.with_name(LIST + PART)
        aside.write_text(json.dumps(listed, indent=1))
        os.replace(aside, file)
        for old in self.folder.iterdir():
            if old.is_dir() and old.name not in {f"{s:08d}" for s in best}:
                shutil.rmtree(old, ignore_errors=True)

    def _failed(self, step: int, why: str) -> None:
        self.failures += 1
        text = f"the model of step {step}, best in {self.metric}, was not kept in {self.folder}: {why}"
        if self.failures >= FAILURES:
            raise CheckpointError(f"{text}. It is the second in a row; start the same command again after that")
        if rank_zero_only.rank == 0:
            logger.warning("%s. Training goes on, and ends if the next one fails, too", text)

    def _read(self) -> dict[int, float]:
        """What an earlier start kept, as far as it is there."""
        file = self.folder / LIST
        if not file.is_file():
            return {}
        listed = json.loads(file.read_text())
        if listed["metric"] != self.metric:
            return {}
        found = {int(one["step"]): float(one["value"]) for one in listed["kept"]}
        return {step: value for step, value in found.items() if (self.folder / f"{step:08d}").is_dir()}


def measured_names(evaluator: Evaluator, stages: Iterable[Stage]) -> list[str]:
    """Metrics of all splits that are measured, and losses on the stages' validation data."""
    names = [
        f"{benchmark.prefix}/{split}/{metric}"
        for benchmark, splits in evaluator.benchmarks
        for split in splits
        for metric in benchmark.spec.metrics
    ]
    for stage in stages:
        if stage.validation is not None:
            names += ["val/loss", *(f"val/{name}/loss" for name in stage.active_objectives)]
    return list(dict.fromkeys(names))


def best_models(
    recipe: Recipe, stage: Stage, evaluator: Evaluator, known: Sequence[str], folder: Path
) -> BestModels | None:
    """As the recipe wants it in a stage; None: it wants none, or the stage does not measure the metric.

    Args:
        evaluator: what the stage measures.
        known: `measured_names` of the whole recipe.

    Raises:
        ConfigError: no stage measures the metric.
    """
    metric = recipe.trainer.keep_best
    if metric is None:
        return None
    if metric not in known:
        raise ConfigError(
            f"trainer.keep_best: {metric} is not measured in training; known: {', '.join(known) or 'nothing'}."
            f"{did_you_mean(metric, known)} Metrics come from evaluation.during_training, val/loss from a stage's "
            "validation data"
        )
    if metric not in measured_names(evaluator, [stage]):
        logger.info("trainer.keep_best: stage %s does not measure %s, and keeps its end only", stage.name, metric)
        return None
    return BestModels(folder, metric, recipe.trainer.num_best)


def _from_rank_0(value: str | None) -> str | None:
    """What rank 0 knows, on every rank."""
    if rank_and_world()[1] == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, 0)
    return values[0]
