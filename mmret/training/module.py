"""What all three trainings have in common: one step, its log, its optimizer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from mmret.models.retriever import Retriever
from mmret.objectives import ITC, OBJECTIVES, LossOutput, Objective, Step
from mmret.recipe.schema import Stage
from mmret.training.optim import build_optimizer, build_schedule, freeze, lr_scale_of, with_layer_decay
from mmret.training.sharding import ShardedStrategy
from mmret.types import Batch

logger = logging.getLogger(__name__)


class RetrievalModule(L.LightningModule):
    """A retriever and its objectives in one stage.

    Dropout is seeded per step and rank, so a resumed run repeats the uninterrupted one.
    """

    def __init__(self, model: Retriever, stage: Stage, seed: int = 0) -> None:
        super().__init__()
        self.model, self.stage, self.seed = model, stage, seed
        configs = stage.active_objectives
        self.objectives = build_objectives(configs, model)
        self.weights = {name: config.weight for name, config in configs.items()}
        self.needs = frozenset(need for config in configs.values() for need in OBJECTIVES[config.name].needs)
        self.scales = freeze(self, lr_scale_of(stage, model))
        parts = [*self.model.children(), *self.model.towers().values()]
        self.frozen = [part for part in parts if _is_frozen(part)]
        self.train()  # Lightning leaves modes as it finds them

    def train(self, mode: bool = True) -> RetrievalModule:
        """Frozen towers stay in eval mode: no dropout, no moving statistics."""
        super().train(mode)
        for tower in self.frozen:
            tower.eval()
        return self

    def configure_model(self) -> None:
        """Lightning calls this once its processes are there, and before the optimizer is built."""
        if isinstance(self.trainer.strategy, ShardedStrategy):
            self.trainer.strategy.shard(self)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed this step."""
        text = f"{self.seed}/{self.stage.name}/{batch_idx}/{self.global_rank}"
        torch.manual_seed(int.from_bytes(blake2b(text.encode(), digest_size=7).digest(), "big"))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The weighted loss of this rank's rows."""
        return self.total_loss(Step(self.model, batch, scales=self.learnt_scales()))

    def learnt_scales(self) -> dict[str, Tensor]:
        """1/temperature of each head that a contrastive loss of this stage learns."""
        learnt = [o for o in self.objectives.values() if isinstance(o, ITC) and o.logit_scale is not None]
        return {objective.config.head: torch.as_tensor(objective.scale).detach() for objective in learnt}

    def total_loss(self, step: Step) -> Tensor:
        """Weighted sum of the objectives; each is logged under its name."""
        outputs = {name: objective(step) for name, objective in self.objectives.items()}
        total = torch.stack([self.weights[name] * output.loss for name, output in outputs.items()]).sum()
        self.log_outputs(total, outputs)
        return total

    def log_outputs(self, total: Tensor, outputs: Mapping[str, LossOutput]) -> None:
        """train/loss, and loss and metrics of each objective."""
        self.log("train/loss", total.detach(), prog_bar=True)
        for name, output in outputs.items():
            values = {"loss": output.loss.detach(), **output.metrics}
            self.log_dict({f"train/{name}/{metric}": value for metric, value in values.items()})

    def configure_optimizers(self) -> Any:
        """AdamW by `lr_scale`; the schedule's length comes from the recipe (asking the trainer loses loader state)."""
        decay = self.stage.optimizer.layer_decay
        scales = with_layer_decay(self.scales, decay, self.model.layers_above() if decay is not None else {})
        optimizer = build_optimizer(self, self.stage.optimizer, scales)
        if decay is not None:
            counts = ", ".join(f"{group['name']}: {len(group['params'])}" for group in optimizer.param_groups)
            _tell("stage %s: parameters by learning rate: %s", self.stage.name, counts)
        schedule = build_schedule(optimizer, self.stage.schedule, self.stage.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Batches know how to move."""
        return batch.to(device, non_blocking=True)


@rank_zero_only
def _tell(text: str, *values: object) -> None:
    logger.info(text, *values)


def build_objectives(configs: Mapping[str, Any], model: Retriever) -> nn.ModuleDict:
    """Objectives by their name in the log, with heads of the model's sizes, ready to train."""
    objectives: dict[str, Objective] = {
        name: OBJECTIVES[config.name].for_model(config, model) for name, config in configs.items()
    }
    for objective in objectives.values():
        objective.prepare()
    return nn.ModuleDict(objectives)


def _is_frozen(module: nn.Module) -> bool:
    """It has parameters, and none trains; what has none, like dropout, follows the mode of the whole."""
    trains = [p.requires_grad for p in module.parameters()]
    return bool(trains) and not any(trains)
