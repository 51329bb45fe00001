"""How many broken samples a job has passed over, told by ranks that do not meet for it in every step."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist

from mmret.ops import rank_and_world


class Skipped:
    """This rank's samples now, and the others' as of the last `meet`: never more than there are, never falling.

    Args:
        own: samples that this rank has passed over since its start.
    """

    def __init__(self, own: Callable[[], int]) -> None:
        self.own = own
        self._others = 0

    def __call__(self) -> int:
        """As far as this rank knows."""
        return self._others + self.own()

    def meet(self, device: torch.device) -> int:
        """Of all ranks, which call this together: one sum.

        Args:
            device: where their process group can add.
        """
        own = self.own()
        if rank_and_world()[1] > 1:
            total = torch.tensor(own, device=device)
            dist.all_reduce(total)
            self._others = int(total) - own
        return self._others + own
