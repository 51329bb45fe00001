"""How a stage ends: its model, objectives and, last, stage.json, all of it there or an error that says what to do."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from mmret.errors import CheckpointError
from mmret.objectives.store import save_objectives
from mmret.training.checkpoints import PART, why_not_written
from mmret.training.logs import merge_logs
from mmret.training.module import RetrievalModule
from mmret.training.sharding import whole


def leave(module: RetrievalModule, folder: Path, record: dict[str, Any]) -> None:
    """Write `FOLDER/model`, metrics.csv and `stage.json`, whose presence says that the stage is complete.

    All ranks call this; rank 0 writes. The checkpoints go once everything is there.

    Args:
        record: what stage.json holds.

    Raises:
        CheckpointError: on every rank: it could not be written. The checkpoints are as they were.
    """
    strategy, why = module.trainer.strategy, None
    with whole(module):
        if module.trainer.is_global_zero:
            try:
                _write(module, folder, record)
            except (OSError, RuntimeError, SafetensorError) as error:  # torch's and safetensors' own for a full disk
                shutil.rmtree(folder / f"model{PART}", ignore_errors=True)
                why = f"{folder}: stage {record['name']} is trained, but not written: {_told(folder, error)}"
    why = strategy.broadcast(why)  # the others wait for it: a stage that begins reads what this one left
    if why is not None:
        raise CheckpointError(why)
    if module.trainer.is_global_zero:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def save(module: RetrievalModule, folder: Path) -> None:
    """Model and objectives, whole, from rank 0; all ranks call this."""
    with whole(module):
        if module.trainer.is_global_zero:
            module.model.save(folder)
            save_objectives(module.objectives, folder)


def _write(module: RetrievalModule, folder: Path, record: dict[str, Any]) -> None:
    part, final = folder / f"model{PART}", folder / "model"
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
    part.mkdir(parents=True)
    module.model.save(part)
    save_objectives(module.objectives, part)
    merge_logs(folder)
    for path in part.rglob("*"):  # the checkpoints go next, and a file server may tell only now that it is full
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    shutil.rmtree(final, ignore_errors=True)
    os.replace(part, final)
    temporary = folder / "stage.json.tmp"
    temporary.write_text(json.dumps(record, indent=1))
    os.replace(temporary, folder / "stage.json")


def _told(folder: Path, error: Exception) -> str:
    there = sorted(path.name for path in (folder / "checkpoints").glob("*.ckpt"))
    if there:
        after = f"The last checkpoint ({there[-1]}) is as it was: the same command goes on from there and finishes"
    else:
        after = "There is no checkpoint of it (trainer.checkpoint_every): the same command trains this stage again"
    return f"{why_not_written(folder, error)}. {after}"
