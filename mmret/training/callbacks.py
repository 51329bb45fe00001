"""What happens beside the step: progress, throughput, evaluation, checkpoints."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar

from mmret.errors import CheckpointError

logger = logging.getLogger(__name__)

LINE_EVERY_S = 15.0
"""Seconds between progress lines where there is no terminal."""


class Throughput(Callback):
    """Samples per second of the whole job since this fit began, without evaluation and checkpoint time."""

    def __init__(self, batch_size: int, accumulate: int) -> None:
        self.samples_per_batch = batch_size / accumulate
        self.samples, self.seconds, self._since = 0.0, 0.0, 0.0

    @property
    def samples_per_s(self) -> float:
        """Samples per second so far; 0 before the first step."""
        return self.samples / self.seconds if self.seconds else 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._since = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Count one batch, including the wait for its data."""
        now = time.monotonic()
        self.samples += self.samples_per_batch
        self.seconds += now - self._since
        self._since = now
        if trainer.lightning_module is not None:
            trainer.lightning_module.log("train/samples_per_s", self.samples_per_s, rank_zero_only=True)

    def pause(self) -> None:
        """Leave out the time since the last batch."""
        self._since = time.monotonic()


class StageProgress(TQDMProgressBar):
    """A bar with the stage's name, loss and samples/s; Lightning adds steps and time left."""

    def __init__(self, stage: str, throughput: Throughput) -> None:
        super().__init__(refresh_rate=1)
        self.stage, self.throughput = stage, throughput

    def init_train_tqdm(self) -> Any:
        """Named after the stage, not the epoch."""
        bar = super().init_train_tqdm()
        bar.set_description(self.stage)
        return bar

    def on_train_epoch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Count from where a resumed stage stands."""
        super().on_train_epoch_start(trainer)
        self.train_progress_bar.set_description(self.stage)

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Loss and speed."""
        shown = {"samples/s": f"{self.throughput.samples_per_s:.0f}"}
        loss = trainer.callback_metrics.get("train/loss")
        return {**shown, "loss": f"{float(loss):.3f}"} if loss is not None else shown


class ProgressLines(Callback):
    """The same in lines, for logs that are no terminal."""

    def __init__(self, stage: str, throughput: Throughput) -> None:
        self.stage, self.throughput = stage, throughput
        self.shown = 0.0

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        """A line every `LINE_EVERY_S` seconds, and at the end."""
        step, steps, now = trainer.global_step, trainer.max_steps, time.monotonic()
        if trainer.is_global_zero and (now - self.shown > LINE_EVERY_S or step == steps):
            self.shown = now
            speed = self.throughput.samples_per_s
            left = (steps - step) * self.throughput.samples_per_batch / speed if speed else 0.0
            loss = float(trainer.callback_metrics.get("train/loss", torch.nan))
            logger.info(
                "%s: step %d/%d, loss %.3f, %.0f samples/s, %.0f s left", self.stage, step, steps, loss, speed, left
            )


class EvaluateInTraining(Callback):
    """Calls `evaluate()` every n optimizer steps, and logs what it returns."""

    def __init__(self, evaluate: Callable[[], dict[str, float]], every: int, throughput: Throughput) -> None:
        self.evaluate, self.every, self.throughput = evaluate, every, throughput
        self._step = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Where a resumed stage stands was measured before."""
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Evaluate at multiples of `every` but the last, which the end of the stage measures."""
        stepped, self._step = trainer.global_step > self._step, trainer.global_step
        if stepped and trainer.global_step % self.every == 0 and trainer.global_step < trainer.max_steps:
            metrics = self.evaluate()
            for log in trainer.loggers:
                log.log_metrics(metrics, step=trainer.global_step)
            self.throughput.pause()


def progress(stage: str, throughput: Throughput) -> Callback:
    """A bar on a terminal, lines elsewhere."""
    return StageProgress(stage, throughput) if sys.stderr.isatty() else ProgressLines(stage, throughput)


def checkpoints(folder: Path, every: int) -> ModelCheckpoint:
    """The newest two resumable checkpoints. Lightning writes them aside and renames: complete or absent."""
    return ModelCheckpoint(
        dirpath=folder,
        filename="{step:08d}",
        auto_insert_metric_name=False,
        every_n_train_steps=every,
        monitor="step",
        mode="max",
        save_top_k=2,
        save_on_train_epoch_end=False,
    )


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
