"""What was compared, how far apart it was, and whether that is near enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

EMBEDDING, SCORE, LOSS, MIDDLE = 2e-5, 1e-4, 1e-4, 1e-4
"""Absolute tolerances of the golden sets: unit vectors, scores, losses, values on the way."""
GRADIENT = 1e-3
"""Relative to the largest entry."""
EXACT = 0.0


@dataclass(frozen=True)
class Comparison:
    """One tensor, or one problem that kept tensors from being compared."""

    name: str
    error: float
    """Largest difference; of gradients relative to the largest entry. NaN for a problem."""
    tolerance: float
    ok: bool
    note: str = ""

    def __str__(self) -> str:
        mark = "ok  " if self.ok else "FAIL"
        if self.error != self.error:
            return f"{mark} {self.name}: {self.note}"
        return f"{mark} {self.name}  error {self.error:.1e}  tolerance {self.tolerance:.0e}" + (
            f"  ({self.note})" if self.note else ""
        )


class Report:
    """Collects comparisons and tells each as it comes.

    Args:
        tell: gets one line per comparison or remark.
    """

    def __init__(self, tell: Callable[[str], None] = lambda line: None) -> None:
        self.tell = tell
        self.prefix = ""
        """Put before each name: the set."""
        self.comparisons: list[Comparison] = []
        self.remarks: list[str] = []

    def compare(self, name: str, ours: Tensor, theirs: Tensor, tolerance: float, *, relative: bool = False) -> None:
        """Record the largest difference; `relative` to theirs' largest entry. Other shapes or NaN fail."""
        name = self.prefix + name
        if ours.shape != theirs.shape:
            note = f"shape {tuple(ours.shape)}, expected {tuple(theirs.shape)}"
            self._add(Comparison(name, float("nan"), tolerance, False, note))
            return
        difference = (ours.detach().double() - theirs.double()).abs()
        error = float(difference.max()) if difference.numel() else 0.0
        if relative:
            error /= max(float(theirs.double().abs().max()), torch.finfo(torch.float32).tiny)
        if error != error:
            self._add(Comparison(name, float("nan"), tolerance, False, "holds NaN"))
            return
        self._add(Comparison(name, error, tolerance, error <= tolerance))

    def fail(self, name: str, note: str) -> None:
        """Record a problem: a missing file, a tensor that is declared and not there."""
        self._add(Comparison(self.prefix + name, float("nan"), 0.0, False, note))

    def remark(self, text: str) -> None:
        """Say something that is neither success nor failure."""
        self.remarks.append(self.prefix + text)
        self.tell(f"--   {self.prefix}{text}")

    @property
    def compared(self) -> int:
        """Tensors compared."""
        return sum(c.error == c.error for c in self.comparisons)

    @property
    def failures(self) -> list[Comparison]:
        """Comparisons that did not hold, and problems."""
        return [c for c in self.comparisons if not c.ok]

    def _add(self, comparison: Comparison) -> None:
        self.comparisons.append(comparison)
        self.tell(str(comparison))
