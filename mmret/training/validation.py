"""A stage's own loss on held-back data: what `mmret report gain` compares between runs."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist

from mmret.objectives import Step
from mmret.ops import rank_and_world
from mmret.training.module import RetrievalModule
from mmret.types import Batch


@torch.no_grad()
def validation_loss(module: RetrievalModule, batches: Iterable[Batch]) -> dict[str, float]:
    """val/loss and each objective's val/<name>/loss: means over the batches, and over ranks.

    Every rank must bring the same number of batches. The module is left in the mode it was in.
    """
    was_training = module.training
    module.eval()
    sums: dict[str, torch.Tensor] = {}
    count = 0
    for batch in batches:
        step = Step(module.model, batch.to(module.device), scales=module.learnt_scales())
        losses = {f"val/{name}/loss": objective(step).loss for name, objective in module.objectives.items()}
        weighted = [module.weights[name] * losses[f"val/{name}/loss"] for name in module.objectives]
        losses["val/loss"] = torch.stack(weighted).sum()
        for name, loss in losses.items():
            sums[name] = sums.get(name, torch.zeros((), device=loss.device)) + loss.float()
        count += 1
    module.train(was_training)
    world = rank_and_world()[1]
    if world > 1:
        for value in sums.values():
            dist.all_reduce(value)
    return {name: float(value) / (count * world) for name, value in sums.items()}
