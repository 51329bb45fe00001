"""Cross-entropy of a query's positive against its hard negatives, and against the rest of the batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from mmret.errors import ConfigError
from mmret.objectives.objective import LossOutput, Objective
from mmret.objectives.step import Step
from mmret.types import Need


@dataclass
class HardNegativeConfig:
    """PreFLMR's contrastive loss (Lin et al. 2024, Eq. 4): softmax over sums of maxima."""

    name: str = "hard_negative"
    weight: float = 1.0
    temperature: float = 1.0
    """Scores are divided by it; late interaction uses the raw sums (1.0)."""
    in_batch: bool = True
    """Other queries' documents, of all ranks, are negatives too; off: only the query's own (pairwise)."""
    mask_false_negatives: bool = True
    """Leave out documents known to answer the query; off reproduces the released code."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ConfigError(f"temperature must be > 0, got {self.temperature}")


class HardNegative(Objective):
    """Mean over queries of -log softmax(scores / temperature)[positive]."""

    Config = HardNegativeConfig
    config: HardNegativeConfig
    needs = frozenset({Need.DOCUMENT})

    def forward(self, step: Step) -> LossOutput:
        """The loss of one step; metrics: share of queries whose positive scores highest."""
        if self.config.in_batch:
            logits, targets = step.scores() / self.config.temperature, step.targets
            if self.config.mask_false_negatives and step.false_negatives is not None:
                logits = logits.masked_fill(step.false_negatives, -torch.inf)
        else:
            logits = step.own_scores() / self.config.temperature
            targets = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        accuracy = (logits.detach().argmax(1) == targets).float().mean()
        return LossOutput(cross_entropy(logits, targets), {"accuracy": accuracy})
