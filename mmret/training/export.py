"""The model inside a checkpoint of an unfinished stage, as the stage would leave it."""

from __future__ import annotations

from pathlib import Path

import torch

from mmret.errors import CheckpointError, ConfigError
from mmret.models import MODELS
from mmret.recipe import load_recipe, stage_model_config
from mmret.training.module import RetrievalModule
from mmret.training.stage import stage_module


def module_of_checkpoint(file: Path) -> RetrievalModule:
    """Model and heads of `RUN/STAGE/checkpoints/STEP.ckpt`, as the run's recipe says; averaged, if that is wanted.

    Sharded stages write whole tensors too: one file holds everything.

    Raises:
        CheckpointError: it lies in no run's folder, does not open, or is of another recipe.
    """
    folder = file.absolute().parent.parent
    try:
        recipe = load_recipe(folder.parent / "recipe.yaml")
        stage = next(stage for stage in recipe.stages if stage.name == folder.name)
    except (ConfigError, StopIteration) as error:
        raise CheckpointError(
            f"{file}: what model it is of stands in the run's recipe: want RUN/STAGE/checkpoints/STEP.ckpt"
        ) from error
    module = stage_module(recipe, stage, MODELS[recipe.model.name](stage_model_config(recipe, stage)))
    try:
        state = torch.load(file, map_location="cpu", weights_only=False, mmap=True)["state_dict"]
        module.load_state_dict(state)
    except Exception as error:
        raise CheckpointError(f"{file} does not open as stage {stage.name} of {recipe.name}: {error}") from error
    return module.eval()
