"""An exponential moving average of the weights: what a stage is measured as and ends with, if its optimizer says so."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EMAWeightAveraging


class MovingAverage(EMAWeightAveraging):
    """After each optimizer step: average = decay x average + (1 - decay) x weights, begun with those after the first.

    Lightning's own callback keeps it in the checkpoint beside the weights that train, so a resumed stage goes on with
    both, and copies it into the model when training ends. Buffers are the model's own.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(decay=decay, use_buffers=False)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Before the strategy wraps the module; frozen weights are the same in both."""
        with warnings.catch_warnings():  # about sharding, which the recipe's check refuses beside ema_decay
            warnings.filterwarnings("ignore", ".*configure_model.*")
            super().setup(trainer, pl_module, stage)
        self._module = pl_module

    def on_validation_epoch_start(self, *_: Any) -> None:
        """Nothing: stages have no validation loop (`swapped`)."""

    def on_validation_epoch_end(self, *_: Any) -> None:
        """Nothing."""

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The module has the averaged weights inside: for evaluation in training."""
        if self._average_model is None:
            yield
            return
        self._swap_models(self._module)
        try:
            yield
        finally:
            self._swap_models(self._module)
