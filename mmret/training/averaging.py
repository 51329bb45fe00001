"""An exponential moving average of the weights: what a stage is measured as and ends with, if its optimizer says so."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor


class MovingAverage(EMAWeightAveraging):
    """After each optimizer step: average = decay x average + (1 - decay) x weights, begun with those after the first.

    Lightning's own callback keeps it in the checkpoint beside the weights that train, so a resumed stage goes on with
    both, and copies it into the model when training ends. Buffers are the model's own, and what does not train stays as
    it is, to the bit.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(decay=decay, use_buffers=False)
        self._kwargs["avg_fn"] = partial(_average, 1 - decay)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Before the strategy wraps the module; frozen weights are the same in both."""
        with warnings.catch_warnings():  # about sharding, which the recipe's check refuses beside ema_decay
            warnings.filterwarnings("ignore", ".*configure_model.*")
            super().setup(trainer, pl_module, stage)
        self._module = pl_module

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """For a stage that goes on from the checkpoint of its last step: no batch is left, no `on_train_end` called."""
        if self._average_model is not None:
            self._copy_average_to_current(pl_module)

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


def _average(step: float, average: Tensor, weights: Tensor, count: Tensor | int) -> Tensor:
    """Both, where they are the same, which decay x a + (1 - decay) x a is not: average + step x (weights - average).

    Whole numbers, which are 4-bit weights, packed, do not train.
    """
    return average.lerp(weights, step) if average.is_floating_point() else weights
