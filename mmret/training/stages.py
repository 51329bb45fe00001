"""Stages in order: skip what is finished, go on where it was, measure, report."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only

from mmret.evaluation.evaluator import Evaluator
from mmret.models import MODELS
from mmret.objectives.store import load_objectives
from mmret.recipe import stage_model_config
from mmret.recipe.schema import Recipe
from mmret.training.beforehand import check_ahead
from mmret.training.joining import join_group
from mmret.training.optim import lr_scale_of, scale_of
from mmret.training.precompute import fill_feature_cache
from mmret.training.progress import track
from mmret.training.record import claimed, finished, stage_fingerprint
from mmret.training.stage import run_stage
from mmret.training.stopping import stop_alone
from mmret.training.vocabulary import check_classes

logger = logging.getLogger(__name__)


def run_recipe(recipe: Recipe, fresh: bool = False) -> Path:
    """Train every stage that is not finished, evaluate, write the report; returns the run's folder.

    Stopped at any point and called again, it goes on where it was.

    Args:
        fresh: delete the run's folder first.

    Raises:
        ConfigError: the folder holds a run of another recipe, or a classifier's number of classes is not the data's.
        EnvironmentProblem: another process trains in the folder, or it cannot be written.
        Stopped: a signal asked for it (`mmret.stop`); what was learnt is saved.
    """
    out = Path(recipe.out)
    if recipe.trainer.threads:
        torch.set_num_threads(recipe.trainer.threads)
    check_classes(recipe)
    with claimed(out, recipe, fresh):
        if recipe.evaluation.rerank is not None:
            Evaluator(recipe.evaluation.benchmarks).check_rerank(recipe.evaluation.rerank)
        # Before the ranks meet: it costs nothing yet, and one may never come.
        pending = [stage for stage in recipe.stages if not (out / stage.name / "stage.json").exists()]
        stop_alone(f"the start of stage {pending[0].name}" if pending else "the evaluation after the last stage")
        if rank_zero_only.rank == 0:
            check_ahead(recipe, pending)
        join_group(recipe.trainer.accelerator)
        _train_and_measure(recipe, out)
    return out


def _train_and_measure(recipe: Recipe, out: Path) -> None:
    previous: Path | None = None
    fingerprint = ""
    for stage in recipe.stages:
        fingerprint = stage_fingerprint(recipe, stage, fingerprint)
        folder = out / stage.name
        if finished(folder, fingerprint, stage, recipe):
            logger.info("stage %s: finished before, skipped", stage.name)
        else:
            stop_alone(f"the start of stage {stage.name}")
            run_stage(recipe, stage, folder, fingerprint, previous)
        previous = folder
    assert previous is not None
    stop_alone("the evaluation after the last stage")
    _measure(recipe, out, previous / "model")


def _measure(recipe: Recipe, out: Path, folder: Path) -> None:
    """The last stage's model on all benchmarks, with their controls; then the report."""
    wanted = recipe.evaluation
    if not wanted.benchmarks:
        return
    device = "cuda" if recipe.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available() else "cpu"
    evaluator = Evaluator(wanted.benchmarks, batch_size=wanted.batch_size, out=out, device=device, track=track)
    cls = MODELS[recipe.model.name]
    model, untrained = cls.load(folder), None
    if wanted.controls and evaluator.wants("untrained"):
        torch.manual_seed(recipe.seed)
        untrained = cls.from_config(stage_model_config(recipe, recipe.stages[-1]))
    if recipe.feature_cache is not None:
        for one in (model, untrained):
            if one is not None:
                contents, frozen = evaluator.contents(), _frozen_towers(recipe, one)
                fill_feature_cache(one, contents, recipe.feature_cache, frozen=frozen, device=device)
    evaluation = evaluator.measure(
        model,
        objectives=load_objectives(folder, model),
        controls=wanted.controls,
        untrained=untrained,
        rerank=wanted.rerank,
    )
    if rank_zero_only.rank == 0:
        from mmret.evaluation.report import terminal_table, write_report

        terminal_table(evaluation.metrics, evaluation.benchmarks)
        logger.info("report: %s", write_report(out))


def _frozen_towers(recipe: Recipe, model: Any) -> set[str]:
    """Towers that no stage trained: their outputs are likely cached, and worth caching."""
    names = {id(parameter): f"model.{name}" for name, parameter in model.named_parameters()}
    frozen = set(model.towers())
    for stage in recipe.stages:
        scales = lr_scale_of(stage, model)
        for tower, module in model.towers().items():
            if any(scale_of(names[id(parameter)], scales) for parameter in module.parameters()):
                frozen.discard(tower)
    return frozen
