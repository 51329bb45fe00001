"""Adam's epsilon where older codes put it: beside the uncorrected second moment."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import AdamW


def use_early_epsilon(optimizer: AdamW) -> AdamW:
    """From now on the optimizer divides by (sqrt(v) + eps) / sqrt(1 - beta2^t), not by sqrt(v / (1 - beta2^t)) + eps.

    So did the AdamW of older transformers versions, with which VLMo was trained. It matters for parameters with tiny
    gradients in the first steps: of VLMo's relative table it changes a fifteenth by more than 1e-5 in six steps. That
    code also decays weights after the update rather than before, a difference of lr^2 x decay (1e-8), left alone.

    Returns:
        The same optimizer.
    """
    epsilons = [group["eps"] for group in optimizer.param_groups]

    def scale(optimizer: Any, args: Any, kwargs: Any) -> None:
        for group, epsilon in zip(optimizer.param_groups, epsilons):
            taken = [int(optimizer.state[p]["step"]) for p in group["params"] if optimizer.state[p]]
            group["eps"] = epsilon / math.sqrt(1 - group["betas"][1] ** (max(taken, default=0) + 1))

    optimizer.register_step_pre_hook(scale)
    return optimizer
