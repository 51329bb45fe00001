"""Where a stage's numbers go: `trainer.loggers`, by Lightning's classes; one run there for all starts of a stage."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import lightning.pytorch.loggers as kinds
from lightning.pytorch.utilities import rank_zero_only

from mmret.errors import EnvironmentProblem
from mmret.recipe.schema import Recipe, Stage


def build_loggers(recipe: Recipe, stage: Stage, folder: Path, step: int) -> list[Any]:
    """The recipe's loggers, metrics.csv's first; tensorboard is passed over where it is not installed.

    Args:
        step: at which the stage goes on; 0: it begins.

    Raises:
        EnvironmentProblem: a logger's package is missing.
    """
    csv = kinds.CSVLogger(folder, name="logs", flush_logs_every_n_steps=recipe.trainer.log_every)
    built: list[Any] = [csv]
    for name in dict.fromkeys(recipe.trainer.loggers):
        if name == "csv":
            continue
        try:
            built.append(_BUILD[name](recipe, stage, folder, step))
        except ImportError as error:
            if name != "tensorboard":  # in the default list
                package = {"comet": "comet-ml"}.get(name, name)
                raise EnvironmentProblem(
                    f"trainer.loggers: {name} is not installed; pip install {package}, or leave it out"
                ) from error
    return built


def _tensorboard(recipe: Recipe, stage: Stage, folder: Path, step: int) -> Any:
    # One run there whatever the number of starts; what an earlier start logged past the checkpoint is hidden.
    return kinds.TensorBoardLogger(folder, name="tensorboard", version="", purge_step=step or None)


def _wandb(recipe: Recipe, stage: Stage, folder: Path, step: int) -> Any:
    return kinds.WandbLogger(
        project=recipe.name, name=stage.name, id=_identity(folder), save_dir=folder, resume="allow"
    )


def _comet(recipe: Recipe, stage: Stage, folder: Path, step: int) -> Any:
    return kinds.CometLogger(project=recipe.name, name=stage.name, experiment_key=_identity(folder))


def _mlflow(recipe: Recipe, stage: Stage, folder: Path, step: int) -> Any:
    # Its server chooses the run's id: kept here for the next start.
    file = folder / "mlflow_run_id"
    known = file.read_text().strip() if file.is_file() else None
    logger = kinds.MLFlowLogger(experiment_name=recipe.name, run_name=stage.name, run_id=known)
    if known is None and rank_zero_only.rank == 0 and logger.run_id:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(logger.run_id)
    return logger


def _identity(folder: Path) -> str:
    """Of the stage's folder, the same at each start: 32 letters and digits, as both services want them."""
    return blake2b(str(folder.absolute()).encode(), digest_size=16).hexdigest()


_BUILD: dict[str, Callable[[Recipe, Stage, Path, int], Any]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "comet": _comet,
}
