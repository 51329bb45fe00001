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
    """Train log(1/temperature)."""
    clamp: bool = True
    """Keep the learnt logarithm in [0, log 100]; VLMo's released code does not."""
    symmetric: bool = True
    """Also rank queries for each positive document; the two losses are averaged."""
    head: str = "main"
    """Which embeddings; VLMo has "vl" beside "main"."""
    mask_false_negatives: bool = True
    """Leave out documents known to answer the query, and queries with the same target."""
    gradient: str = "exact"
    """exact: the global batch's gradient whatever the number of ranks W. local: other ranks' rows carry none, as in
    VLMo's released code: 1/W of it for the encoders, all of it for the temperature (each rank has the global loss)."""

    def __post_init__(self) -> None:
        if self.temperature != MISSING and self.temperature <= 0:
            raise ConfigError(f"temperature must be > 0, got {self.temperature}")
        if self.gradient not in ("exact", "local"):
            raise ConfigError(f"gradient must be exact or local, got '{self.gradient}'")
        if self.gradient == "local" and self.mask_false_negatives:
            raise ConfigError(
                "gradient: local reproduces a code without masks; set mask_false_negatives: false beside it"
            )


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
        scale = self.scale
        if self.config.gradient == "local":
            return self._local_gradient(step, scale)
        head, mask = self.config.head, self.config.mask_false_negatives
        logits = _hide(step.scores(head) * scale, step.false_negatives if mask else None)
        loss = cross_entropy(logits, step.targets)
        if self.config.symmetric:
            reverse = _hide(step.reverse_scores(head) * scale, step.reverse_false_negatives if mask else None)
            loss = (loss + cross_entropy(reverse, step.reverse_targets)) / 2
        return self._output(loss, logits, step.targets, scale)

    @property
    def scale(self) -> Tensor | float:
        """1 / temperature."""
        if self.logit_scale is None:
            return self.fixed_scale
        return (self.logit_scale.clamp(0, math.log(100)) if self.config.clamp else self.logit_scale).exp()

    def _local_gradient(self, step: Step, scale: Tensor | float) -> LossOutput:
        logits = step.global_scores(self.config.head) * scale
        targets = torch.arange(len(logits), device=logits.device) * step.batch.num_documents
        loss = cross_entropy(logits, targets)
        if self.config.symmetric:
            loss = (loss + cross_entropy(logits[:, targets].T, targets // step.batch.num_documents)) / 2
        return self._output(loss, logits, targets, scale)

    def _output(self, loss: Tensor, logits: Tensor, targets: Tensor, scale: Tensor | float) -> LossOutput:
        metrics = {"accuracy": (logits.detach().argmax(1) == targets).float().mean()}
        if isinstance(scale, Tensor):
            metrics["temperature"] = 1 / scale.detach()
        return LossOutput(loss, metrics)


def _hide(logits: Tensor, mask: Tensor | None) -> Tensor:
    return logits if mask is None else logits.masked_fill(mask, -torch.inf)
