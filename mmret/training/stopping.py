"""Stopping on request: all ranks after the same optimizer step, with a checkpoint; where they do not step, rank 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from mmret import stop
from mmret.errors import CheckpointError
from mmret.ops import rank_and_world
from mmret.stop import Stopped
from mmret.training.checkpoints import newest_checkpoint

PATIENCE_S = 60.0
"""Seconds that an evaluation in the middle of a stage has to come back to the steps, where no work is lost."""

_GO_ON, _LEAVE, _REQUEUE = range(3)


class StopAtStep(Callback):
    """Ends the fit of all ranks after the same step when one of them was asked to stop (`mmret.stop`).

    Ranks learn of a signal at different times. They agree after every optimizer step: one number, over gloo, so that
    no GPU is waited for. Before ModelCheckpoint among the callbacks.

    Args:
        folder: of the stage's checkpoints.
        every: steps between the regular ones, which are not written twice.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self.folder, self.every = folder, every
        self.agreed = _GO_ON
        self._group: Any = None
        self._step = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop before the first step if the request came earlier: there is nothing new to save."""
        # Lightning has just put a handler there that broadcasts, inside the handler.
        stop.listen_for_sigterm()
        self._step = trainer.global_step
        self._group = _cpu_group() if stop.listening() else None
        self._agree(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After an optimizer step (not after a part of one): agree, and save."""
        stepped, self._step = trainer.global_step > self._step, trainer.global_step
        if stepped and self._agree(trainer) and trainer.global_step % self.every:
            trainer.save_checkpoint(self.folder / f"{trainer.global_step:08d}.ckpt")

    def check(self, trainer: L.Trainer, stage: str) -> None:
        """After the fit.

        Raises:
            Stopped: on every rank, if they agreed to stop.
            CheckpointError: the checkpoint of that step does not open.
        """
        if self.agreed == _GO_ON:
            return
        step = trainer.global_step
        if trainer.is_global_zero:
            if step and _step_of(newest_checkpoint(self.folder)) != step:
                raise CheckpointError(f"{self.folder}: the checkpoint of step {step}, just written, does not open")
            # ModelCheckpoint knows the regular ones only; of ours, one for each requeue, the newest stays.
            ours = [path for path in sorted(self.folder.glob("*.ckpt")) if int(path.stem[:8]) % self.every]
            for old in ours[:-1]:
                old.unlink()
        raise Stopped(f"stage {stage}, step {step} of {trainer.max_steps}", self.agreed == _REQUEUE, together=True)

    def _agree(self, trainer: L.Trainer) -> bool:
        request = stop.requested()
        mine = _GO_ON if request is None else _REQUEUE if request.requeue else _LEAVE
        if self._group is not None:
            most = torch.tensor(mine)
            dist.all_reduce(most, dist.ReduceOp.MAX, group=self._group)
            mine = int(most)
        self.agreed = mine
        if mine != _GO_ON:
            trainer.should_stop = True
        return mine != _GO_ON


def stop_alone(where: str, patience_s: float = 0.0) -> None:
    """For places outside of training steps, where nothing is lost by stopping, and ranks cannot agree.

    Only rank 0 stops: requeued or not, the scheduler ends the others.

    Args:
        patience_s: let this much time pass after the request.

    Raises:
        Stopped: this is rank 0, and it was asked to stop.
    """
    request = stop.requested()
    if request is not None and rank_zero_only.rank == 0 and request.age_s >= patience_s:
        raise Stopped(where, request.requeue, together=False)


def _step_of(checkpoint: Path | None) -> int | None:
    if checkpoint is None:
        return None
    return torch.load(checkpoint, map_location="cpu", weights_only=False, mmap=True)["global_step"]


def _cpu_group() -> Any:
    """A group of all ranks that talks over gloo; None for one process."""
    if rank_and_world()[1] == 1:
        return None
    return dist.group.WORLD if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")
