"""The model that a name means: a folder, a hub id, or a run's folder, which has a model for each stage."""

from __future__ import annotations

from pathlib import Path

from mmret.errors import ConfigError
from mmret.recipe.load import load_recipe
from mmret.recipe.schema import Recipe


def find_model(checkpoint: str) -> tuple[str, Recipe | None]:
    """The model's folder, and the recipe of the run where `checkpoint` is a run's folder.

    Raises:
        ConfigError: the run has not finished a stage.
    """
    run_folder = Path(checkpoint)
    if not (run_folder / "recipe.yaml").is_file() or (run_folder / "config.json").is_file():
        return checkpoint, None
    recipe = load_recipe(run_folder / "recipe.yaml")
    for stage in reversed(recipe.stages):
        if (run_folder / stage.name / "stage.json").is_file():
            return str(run_folder / stage.name / "model"), recipe
    raise ConfigError(f"{run_folder}: no stage of this run is finished; mmret run {run_folder / 'recipe.yaml'} goes on")
