"""How fast a stage trains, and what it waits for: samples/s, MFU, data wait, memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from mmret.ops.flops import ModelFlops
from mmret.ops.memory import peak_memory_mb
from mmret.ops.peak import peak_of

RECENT = 50
"""Batches over which speeds are shown: few enough to see a change, enough for a GPU's queue not to matter."""
COUNTED = 3
"""Batches whose operations are counted: lengths differ."""


@dataclass(frozen=True)
class Reading:
    """What a run does just now."""

    samples_per_s: float
    """Of the whole job."""
    data_wait: float
    """Share of the time in which this rank waited for its loader."""
    mfu: float | None
    """Model FLOPs of this rank's batch over what its device could have computed; None: peak unknown."""
    skipped: int
    """Samples that were broken, and replaced, so far, as far as this rank knows (`Skipped`)."""
    peak_memory_mb: float | None
    """Most memory so far: of tensors on a GPU, of the process on the CPU."""

    def numbers(self) -> dict[str, float]:
        """For loggers."""
        found = {
            "train/samples_per_s": self.samples_per_s,
            "train/data_wait": self.data_wait,
            "train/mfu": self.mfu,
            "train/skipped": float(self.skipped),
            "train/peak_memory_mb": self.peak_memory_mb,
        }
        return {name: value for name, value in found.items() if value is not None}

    def texts(self) -> dict[str, str]:
        """For people; what is nothing to see is left out."""
        shown = {"samples/s": f"{self.samples_per_s:.0f}"}
        if self.mfu is not None:
            shown["MFU"] = f"{self.mfu:.0%}"
        shown["data wait"] = f"{self.data_wait:.0%}"
        if self.skipped:
            shown["skipped"] = f"{self.skipped:,}"
        if self.peak_memory_mb is not None:
            shown["peak GB"] = f"{self.peak_memory_mb / 1024:.1f}"
        return shown


class Throughput(Callback):
    """Times batches, without evaluation and checkpoints (`pause`), and counts the operations of the first ones.

    Args:
        batch_size: queries of an optimizer step, over all ranks.
        accumulate: batches of it.
        waited: seconds that this rank has waited for its loader so far.
        skipped: samples that were replaced so far.
        peak: operations a second of this rank's device; None: as its name says. 0: unknown.
        clock: seconds.
    """

    def __init__(
        self,
        batch_size: int,
        accumulate: int,
        *,
        waited: Callable[[], float] = lambda: 0.0,
        skipped: Callable[[], int] = lambda: 0,
        peak: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.samples_per_step, self.samples_per_batch = batch_size, batch_size / accumulate
        self.samples, self.seconds = 0.0, 0.0
        self.waited, self.skipped, self.peak, self.clock = waited, skipped, peak, clock
        self._since = self._waited = 0.0
        self._recent: deque[tuple[float, float]] = deque(maxlen=RECENT)
        self._counts: list[int] = []
        self._count: ModelFlops | None = None
        self._device = torch.device("cpu")

    @property
    def samples_per_s(self) -> float:
        """Samples per second of the whole job since this fit began; 0 before the first step."""
        return self.samples / self.seconds if self.seconds else 0.0

    @property
    def flops(self) -> float | None:
        """Operations of one batch of this rank, mean of the first ones; None: not counted."""
        return sum(self._counts) / len(self._counts) if self._counts else None

    def reading(self) -> Reading:
        """Of the last `RECENT` batches."""
        seconds = sum(took for took, _ in self._recent)
        number, flops = len(self._recent), self.flops
        return Reading(
            samples_per_s=number * self.samples_per_batch / seconds if seconds else 0.0,
            data_wait=min(1.0, sum(wait for _, wait in self._recent) / seconds) if seconds else 0.0,
            mfu=number * flops / (seconds * self.peak) if seconds and flops and self.peak else None,
            skipped=self.skipped(),
            peak_memory_mb=peak_memory_mb(self._device),
        )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._device = pl_module.device
        if self.peak is None:
            self.peak = peak_of(self._device, str(trainer.precision)) or 0.0
        self._since, self._waited = self.clock(), self.waited()

    def on_train_batch_start(self, *_: Any) -> None:
        """Count this batch's operations, if it is one of the first."""
        if self.peak and len(self._counts) < COUNTED:
            self._count = ModelFlops()
            self._count.open()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Count one batch, including the wait for its data."""
        if self._count is not None:
            self._counts.append(self._count.close())
            self._count = None
        now, waited = self.clock(), self.waited()
        took, wait = now - self._since, waited - self._waited
        self.samples += self.samples_per_batch
        self.seconds += took
        self._recent.append((took, wait))
        self._since, self._waited = now, waited
        # As tensors that stay on the CPU: Lightning sends plain numbers to the GPU, and waits for it at each.
        numbers = {name: torch.tensor(value) for name, value in self.reading().numbers().items()}
        pl_module.log_dict(numbers, rank_zero_only=True)

    def on_exception(self, *_: Any) -> None:
        """A step that was being counted came to no end."""
        if self._count is not None:
            self._count.close()
            self._count = None

    def pause(self) -> None:
        """Leave out the time since the last batch."""
        self._since = self.clock()
