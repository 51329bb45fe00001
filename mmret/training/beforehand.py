"""What would end a run at a later stage or at its evaluation, found before the first stage trains."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import cast

import torch
from torch import nn

from mmret.data.spec import DataSpec
from mmret.errors import CheckpointError, ConfigError
from mmret.evaluation.evaluator import Evaluator
from mmret.models import MODELS
from mmret.models.retriever import Retriever
from mmret.objectives import OBJECTIVES
from mmret.recipe import stage_model_config
from mmret.recipe.schema import Recipe, Stage
from mmret.training.optim import lr_scale_of, scale_of_parameters


def check_ahead(recipe: Recipe, stages: Iterable[Stage]) -> None:
    """Open the data of these stages and of all benchmarks, and see that what they train has such parameters.

    No weight is read, no sample decoded. The first stage is looked at when it begins, a moment later.

    Raises:
        ConfigError: a file, a part of the model or a parameter that a recipe names is not there.
        CheckpointError: a folder to start from is not there.
        SampleError: shards are not as their manifest says, or a query is broken.
    """
    for stage in [stage for stage in stages if stage is not recipe.stages[0]]:
        for mixture in (stage.data, stage.validation):
            for name in [] if mixture is None else [n for n, s in mixture.sources.items() if s.weight]:
                DataSpec.load(name).open()
        _check_start(recipe, stage)
        _check_parameters(recipe, stage)
    Evaluator([*recipe.evaluation.during_training, *recipe.evaluation.benchmarks]).check()


def _check_start(recipe: Recipe, stage: Stage) -> None:
    source = stage.init_from
    if source in (None, "previous"):
        return
    own = Path(recipe.out).absolute() in Path(source).absolute().parents  # of a stage that is still to train
    if not own and not Path(source).exists():
        raise CheckpointError(f"stage {stage.name}: init_from: {source} is not there")


def _check_parameters(recipe: Recipe, stage: Stage) -> None:
    config = stage_model_config(recipe, stage)
    try:
        model = MODELS[recipe.model.name].skeleton(config)
        with torch.device("meta"):
            heads = {key: OBJECTIVES[own.name].for_model(own, model) for key, own in stage.active_objectives.items()}
    except ConfigError:  # a file that it needs is fetched when the stage is built
        return
    try:
        module = nn.ModuleDict({"model": model, "objectives": nn.ModuleDict(heads)})
        names = [name for name, _ in module.named_parameters()]
        scale_of_parameters(names, lr_scale_of(stage, cast(Retriever, model)))
    except ConfigError as error:
        raise ConfigError("\n".join(f"stage {stage.name}: {line}" for line in str(error).splitlines())) from error
