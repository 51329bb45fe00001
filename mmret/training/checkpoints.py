"""Resumable checkpoints of a stage: complete or absent, the newest two; a write that fails costs no run."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from mmret.errors import CheckpointError

logger = logging.getLogger(__name__)

KEPT = 2
"""Newest checkpoints that stay."""
FAILURES = 2
"""Failed writes in a row that end the run: by then a good part of it would be lost."""
PART = ".part"


class CheckpointFile(TorchCheckpointIO):
    """Writes a checkpoint aside, flushes it to the disk, opens it, and renames it.

    A failure (disk full, read-only folder) is reported and counted; the file aside is deleted, and those before stay.
    """

    def __init__(self) -> None:
        self.failures = 0
        """Writes that failed since the last that did not."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write, or say why not; on rank 0."""
        path = Path(path)
        part = path.with_name(path.name + PART)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for left in path.parent.glob(f"*{PART}"):  # by a process that was killed
                left.unlink()
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            torch.load(part, map_location="cpu", weights_only=False, mmap=True)
            os.replace(part, path)
        except (OSError, RuntimeError) as error:  # torch's writer turns the first into the second
            self.failures += 1
            _delete(part)
            logger.warning("%s", _failed(path, error, self.failures))
        else:
            self.failures = 0


class Checkpoints(Checkpoint):
    """Saves every n optimizer steps, keeps the newest two, and ends the run after `FAILURES` failed saves in a row.

    Args:
        folder: `STEP.ckpt` go there.
        files: what the trainer writes them with.
        saved: called after each save, whether it failed or not.
    """

    def __init__(self, folder: Path, every: int, files: CheckpointFile, saved: Callable[[], None]) -> None:
        self.folder, self.every, self.files, self.saved = folder, every, files, saved
        self._step = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Where a resumed stage stands was saved before."""
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After an optimizer step.

        Raises:
            CheckpointError: on every rank: the last writes failed.
        """
        stepped, self._step = trainer.global_step > self._step, trainer.global_step
        if not stepped or trainer.global_step % self.every:
            return
        trainer.save_checkpoint(self.folder / f"{trainer.global_step:08d}.ckpt")
        # Rank 0 alone knows whether it was written; the others must not go on without it.
        failures = trainer.strategy.broadcast(self.files.failures)
        if failures >= FAILURES:
            raise CheckpointError(
                f"{self.folder}: {failures} checkpoints in a row could not be written (see the warnings above), the "
                f"last at step {trainer.global_step}. {_standing(self.folder)} Make room, or make the folder writable, "
                "and start the same command again"
            )
        if trainer.is_global_zero and not failures:
            for old in sorted(self.folder.glob("*.ckpt"))[:-KEPT]:
                old.unlink(missing_ok=True)
        self.saved()


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that opens; a broken one is reported and passed over.

    Raises:
        CheckpointError: there are checkpoints, and none opens.
    """
    found = sorted(folder.glob("*.ckpt"), reverse=True)
    for path in found:
        try:
            torch.load(path, map_location="cpu", weights_only=False, mmap=True)
        except Exception as error:
            logger.warning("%s does not open (%s); trying the one before", path, error)
            continue
        return path
    if found:
        raise CheckpointError(
            f"{folder}: none of {len(found)} checkpoints opens; delete the folder to train this stage again"
        )
    return None


def why_not_written(folder: Path, error: Exception) -> str:
    """What a failed write means, and what to do."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None and "code: 28" in str(error):  # safetensors'
        number = errno.ENOSPC
    if number in (errno.ENOSPC, errno.EDQUOT):
        free = _free(folder)
        return f"the disk is full{free}; make room there" if number == errno.ENOSPC else "your disk quota is used up"
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "the folder cannot be written; mount it writable, or give yourself the rights"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}{_free(folder)}"


def _failed(path: Path, error: Exception, failures: int) -> str:
    next_ = " Training goes on, and ends if the next one fails, too" if failures < FAILURES else ""
    return f"checkpoint {path} was not written: {why_not_written(path.parent, error)}. {_standing(path.parent)}{next_}"


def _standing(folder: Path) -> str:
    there = sorted(path.name for path in folder.glob("*.ckpt"))
    return f"The newest complete one is {there[-1]}." if there else "There is no earlier one."


def _free(folder: Path) -> str:
    try:
        return f" ({shutil.disk_usage(folder).free / 2**30:.2f} GiB free)"
    except OSError:
        return ""


def _delete(part: Path) -> None:
    with suppress(OSError):  # read-only: it is not there either
        part.unlink(missing_ok=True)
