"""Operations that a model's forward and backward passes need, without those that are done again to save memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.flop_counter import FlopCounterMode

_open: list[ModelFlops] = []


class ModelFlops:
    """Counts while it is open, as torch does: matrix products, convolutions, attention; two for a multiply-add.

    Left out is what a forward pass computes a second time: GradCache's replay, and activation checkpointing, which is a
    module called in a backward pass. MFU is defined without these (Chowdhery et al. 2022, PaLM, App. B).
    """

    def __init__(self) -> None:
        self.total = 0
        """Operations, once closed."""
        self._again = self._depth = self._before = 0

    def open(self) -> None:
        """Begin. Compiled blocks run eagerly until `close`: kernels that a compiler made count as nothing."""
        self._eager = torch.compiler.set_stance("force_eager")
        self._eager.__enter__()
        self._hooks = [
            register_module_forward_pre_hook(lambda *_: self._enter_module()),
            register_module_forward_hook(lambda *_: self._leave_module(), always_call=True),
        ]
        self._counter = FlopCounterMode(display=False)
        self._counter.__enter__()
        _open.append(self)

    def close(self) -> int:
        """End; gives `total`."""
        _open.remove(self)
        self._counter.__exit__(None, None, None)
        for hook in self._hooks:
            hook.remove()
        self._eager.__exit__(None, None, None)
        self.total = self._counter.get_total_flops() - self._again
        return self.total

    def enter_again(self) -> None:
        """What follows was computed before."""
        if self._depth == 0:
            self._before = self._counter.get_total_flops()
        self._depth += 1

    def leave_again(self) -> None:
        """Until here."""
        self._depth -= 1
        if self._depth == 0:
            self._again += self._counter.get_total_flops() - self._before

    def _enter_module(self) -> Any:
        if self._depth or self._counter.mod_tracker.is_bw:
            self.enter_again()

    def _leave_module(self) -> Any:
        if self._depth:
            self.leave_again()


@contextmanager
def recomputing() -> Iterator[None]:
    """For code that computes a second time what it did before: counts leave out what is inside."""
    counts = list(_open)
    for count in counts:
        count.enter_again()
    try:
        yield
    finally:
        for count in counts:
            count.leave_again()
