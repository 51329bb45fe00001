"""What happens beside the step: progress shown, evaluation."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, TQDMProgressBar

from mmret.training.progress import Pace, duration
from mmret.training.throughput import Throughput

logger = logging.getLogger(__name__)


class StageProgress(TQDMProgressBar):
    """A bar with the stage's name, loss and what `Throughput` reads; Lightning adds steps and time left."""

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
        shown = self.throughput.reading().texts()
        loss = trainer.callback_metrics.get("train/loss")
        return {"loss": f"{float(loss):.3f}", **shown} if loss is not None else {**shown}


class ProgressLines(Callback):
    """The same in lines, for logs that are no terminal."""

    def __init__(self, stage: str, throughput: Throughput) -> None:
        self.stage, self.throughput = stage, throughput
        self.pace = Pace(clock=throughput.clock)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        """A line after the first batch, when `Pace` says so, and at the end."""
        if trainer.is_global_zero and (self.pace.due() or trainer.global_step == trainer.max_steps):
            loss = float(trainer.callback_metrics.get("train/loss", torch.nan))
            logger.info("%s", self.line(trainer.global_step, trainer.max_steps, loss))

    def line(self, step: int, steps: int, loss: float) -> str:
        """`joint: step 120/2000, loss 1.234, samples/s 512, MFU 41%, data wait 2%, peak GB 11.2, 3 min left`."""
        reading = self.throughput.reading()
        shown = [f"{name} {text}" for name, text in {"loss": f"{loss:.3f}", **reading.texts()}.items()]
        speed = reading.samples_per_s
        left = (steps - step) * self.throughput.samples_per_step / speed if speed else 0.0
        return f"{self.stage}: step {step}/{steps}, {', '.join(shown)}, {duration(left)} left"


class EvaluateInTraining(Callback):
    """Calls `evaluate(step)` every n optimizer steps, and logs what it returns."""

    def __init__(self, evaluate: Callable[[int], dict[str, float]], every: int, throughput: Throughput) -> None:
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
        due = stepped and trainer.global_step % self.every == 0 and trainer.global_step < trainer.max_steps
        if due and not trainer.should_stop:  # a scheduler waits for the process to end
            metrics = self.evaluate(trainer.global_step)
            for log in trainer.loggers:
                log.log_metrics(metrics, step=trainer.global_step)
            self.throughput.pause()


def progress(stage: str, throughput: Throughput) -> Callback:
    """A bar on a terminal, lines elsewhere."""
    return StageProgress(stage, throughput) if sys.stderr.isatty() else ProgressLines(stage, throughput)
