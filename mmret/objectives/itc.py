"""Image-text contrastive loss: InfoNCE over the global batch, one way or both ways."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from omegaconf import MISSING
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmret.errors import ConfigError
from mmret.objectives.objective import LossOutput, Objective
from mmret.objectives.step import Step


@dataclass
class ITCConfig:
    """CLIP's contrastive loss (Radford et al. 2021, Sec. 2.3); one way it is InfoNCE as VLM2Vec uses it."""

    name: str = "itc"
    weight: float = 1.0
    temperature: float = MISSING
    """Softmax temperature, or where it starts; CLIP 0.07, VLM2Vec 0.02."""
    learn_temperature: bool = False
    """Train log(1/temperature), clamped to [0, log 100]."""
    symmetric: bool = True
    """Also rank queries for each positive document; the two losses are averaged."""
    head: str = "main"
    """Which embeddings; VLMo has "vl" beside "main"."""
    mask_false_negatives: bool = True
    """Leave out documents known to answer the query, and queries with the same target."""

    def __post_init__(self) -> None:
        if self.temperature != MISSING and self.temperature <= 0:
            raise ConfigError(f"temperature must be > 0, got {self.temperature}")


class ITC(Objective):
    """Mean over queries of -log softmax(scores / temperature)[positive]; symmetric: averaged with its mirror image."""

    Config = ITCConfig
    config: ITCConfig

    def __init__(self, config: ITCConfig) -> None:
        super().__init__(config)
        start = torch.tensor(math.log(1 / config.temperature))
        self.logit_scale = nn.Parameter(start) if config.learn_temperature else None
        self.fixed_scale = 1 / config.temperature

    def forward(self, step: Step) -> LossOutput:
        """The loss of one step; metrics: accuracy, and the temperature where it is learnt."""
        scale: Tensor | float = self.fixed_scale
        if self.logit_scale is not None:
            scale = self.logit_scale.clamp(0, math.log(100)).exp()
        head, mask = self.config.head, self.config.mask_false_negatives
        logits = _hide(step.scores(head) * scale, step.false_negatives if mask else None)
        loss = cross_entropy(logits, step.targets)
        if self.config.symmetric:
            reverse = _hide(step.reverse_scores(head) * scale, step.reverse_false_negatives if mask else None)
            loss = (loss + cross_entropy(reverse, step.reverse_targets)) / 2
        metrics = {"accuracy": (logits.detach().argmax(1) == step.targets).float().mean()}
        if isinstance(scale, Tensor):
            metrics["temperature"] = 1 / scale.detach()
        return LossOutput(loss, metrics)


def _hide(logits: Tensor, mask: Tensor | None) -> Tensor:
    return logits if mask is None else logits.masked_fill(mask, -torch.inf)
