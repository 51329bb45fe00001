"""Image-text contrastive loss: InfoNCE over the global batch, one way or both ways."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from omegaconf import MISSING
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmret.errors import ConfigError
from mmret.objectives.hardness import hardness_bias
from mmret.objectives.margin import above_margin
from mmret.objectives.matryoshka import PrefixStep
from mmret.objectives.objective import LossOutput, Objective
from mmret.objectives.step import NO_SCORE, Step
from mmret.types import Need


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
    """Leave out documents known to answer the query, and queries that the document answers."""
    multi_positive: bool = False
    """Count them as further positives instead: the target is spread evenly over all that match (several captions of
    one picture)."""
    mask_margin: float | None = None
    """Leave out negatives that score above the row's positive by more than this (before the temperature; 0.1 in Qwen3
    Embedding), as likely false ones; null: none."""
    mask_ratio: float | None = None
    """Likewise above this share of the positive's score (0.95 in NV-Retriever); null: none."""
    hardness: float = 0.0
    """beta: a negative counts exp(beta * score) times (before the temperature; LLaVE); 0: all alike."""
    hardness_mean_one: bool = False
    """Divide these weights by their mean over the row (Robinson et al. 2021): hard ones count more, easy ones less."""
    matryoshka: list[int] = field(default_factory=list)
    """Adds the same loss on so many leading dimensions each, unit length again (Kusupati et al. 2022); 256, 64."""
    matryoshka_weights: list[float] = field(default_factory=list)
    """How much each of these counts beside all dimensions together, which count 1; empty: 1 each."""
    gradient: str = "exact"
    """exact: the global batch's gradient whatever the number of ranks W. local: other ranks' rows carry none, as in
    VLMo's released code: 1/W of it for the encoders, all of it for the temperature (each rank has the global loss)."""

    def __post_init__(self) -> None:
        if self.temperature != MISSING and self.temperature <= 0:
            raise ConfigError(f"temperature must be > 0, got {self.temperature}")
        if self.gradient not in ("exact", "local"):
            raise ConfigError(f"gradient must be exact or local, got '{self.gradient}'")
        if self.multi_positive and not self.mask_false_negatives:
            raise ConfigError(
                "multi_positive counts known matches, which mask_false_negatives: false ignores; drop one"
            )
        if self.mask_ratio is not None and self.mask_ratio <= 0:
            raise ConfigError(f"mask_ratio must be > 0, got {self.mask_ratio}")
        if self.hardness < 0:
            raise ConfigError(f"hardness must be >= 0, got {self.hardness}")
        if self.hardness_mean_one and not self.hardness:
            raise ConfigError("hardness_mean_one divides the weights that hardness makes; set hardness beside it")
        if self.matryoshka_weights and len(self.matryoshka_weights) != len(self.matryoshka):
            raise ConfigError(
                f"matryoshka_weights has {len(self.matryoshka_weights)} weights for {len(self.matryoshka)} dimensions"
            )
        if any(dim < 1 for dim in self.matryoshka) or any(weight <= 0 for weight in self.matryoshka_weights):
            raise ConfigError(
                f"matryoshka: dimensions must be >= 1 and weights > 0, got {self.matryoshka}, {self.matryoshka_weights}"
            )
        beyond = [key for key in ("mask_margin", "mask_ratio") if getattr(self, key) is not None]
        beyond += [key for key in ("hardness", "matryoshka") if getattr(self, key)]
        if self.gradient == "local" and beyond:
            raise ConfigError(f"gradient: local reproduces a code without {', '.join(beyond)}; drop one of them")
        if self.gradient == "local" and self.mask_false_negatives:
            raise ConfigError(
                "gradient: local reproduces a code without masks; set mask_false_negatives: false beside it"
            )


class ITC(Objective):
    """Mean over queries of -log softmax(scores / temperature)[positive]; symmetric: averaged with its mirror image."""

    Config = ITCConfig
    config: ITCConfig
    needs = frozenset({Need.DOCUMENT})

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
        loss = self._loss(step, scale)
        dims = self.config.matryoshka
        for dim, weight in zip(dims, self.config.matryoshka_weights or [1.0] * len(dims)):
            loss = loss + weight * self._loss(PrefixStep(step, dim, self.config.head), scale)
        known = step.false_negatives if self.config.mask_false_negatives else None
        return self._output(loss, step.scores(self.config.head), step.targets, scale, known)

    def _loss(self, step: Step, scale: Tensor | float) -> Tensor:
        head, mask = self.config.head, self.config.mask_false_negatives
        known = step.false_negatives if mask else None
        loss = self._cross_entropy(self._logits(step.scores(head), step.targets, known, scale), step.targets, known)
        if not self.config.symmetric:
            return loss
        others = step.reverse_false_negatives if mask else None
        reverse = self._logits(step.reverse_scores(head), step.reverse_targets, others, scale)
        return (loss + self._cross_entropy(reverse, step.reverse_targets, others)) / 2

    def _logits(self, scores: Tensor, targets: Tensor, known: Tensor | None, scale: Tensor | float) -> Tensor:
        """Scores [B, N] over the temperature, with too good negatives left out and hard ones raised."""
        config, logits = self.config, scores * scale
        if config.mask_margin is None and config.mask_ratio is None and not config.hardness:
            return logits
        hidden = above_margin(scores, targets, config.mask_margin, config.mask_ratio)
        negatives = (scores > NO_SCORE) & ~hidden
        if known is not None:
            hidden, negatives = hidden & ~known, negatives & ~known
        negatives = negatives.scatter(1, targets.unsqueeze(1), False)
        if config.hardness:
            logits = logits + hardness_bias(scores, negatives, config.hardness, config.hardness_mean_one)
        return logits.masked_fill(hidden, NO_SCORE)  # finite: with several positives it meets a target of 0

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

    def _cross_entropy(self, logits: Tensor, targets: Tensor, known: Tensor | None) -> Tensor:
        """Of rows [B, N] with their own match at `targets` [B]; `known` [B, N]: further matches."""
        if known is None:
            return cross_entropy(logits, targets)
        if not self.config.multi_positive:
            return cross_entropy(logits.masked_fill(known, -torch.inf), targets)
        shares = known.scatter(1, targets.unsqueeze(1), True).to(logits.dtype)
        return cross_entropy(logits, shares / shares.sum(1, keepdim=True))

    def _output(
        self, loss: Tensor, logits: Tensor, targets: Tensor, scale: Tensor | float, known: Tensor | None = None
    ) -> LossOutput:
        # A further match in the first place is neither right nor wrong: the row is judged without it.
        judged = logits.detach() if known is None else logits.detach().masked_fill(known, -torch.inf)
        metrics = {"accuracy": (judged.argmax(1) == targets).float().mean()}
        if isinstance(scale, Tensor):
            metrics["temperature"] = 1 / scale.detach()
        return LossOutput(loss, metrics)
