"""Answers as classes, from text and picture read together: VQA's soft scores, NLVR2's true or false."""

# B rows, C classes

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import MISSING
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from mmret.errors import ConfigError
from mmret.models.retriever import PairEncoder
from mmret.objectives.objective import LossOutput, Objective
from mmret.objectives.step import Step
from mmret.types import Inputs, Need


@dataclass
class ClassifyConfig:
    """A two-layer head on the pooled state of one pair or, NLVR2, of two pairs side by side."""

    name: str = "classify"
    weight: float = 1.0
    num_classes: int = MISSING
    """VQAv2: 3129 answers; NLVR2: 2."""
    images: int = 1
    """2: each row's text is read with either of its two pictures (the second of type 2)."""

    def __post_init__(self) -> None:
        if self.images not in (1, 2):
            raise ConfigError(f"images must be 1 or 2, got {self.images}")


class Classify(Objective):
    """Cross-entropy of one right class, or binary cross-entropy of soft scores, summed over classes.

    The query must bring `targets`: int64 [B], or float [B, C] with scores in [0, 1].
    """

    Config = ClassifyConfig
    config: ClassifyConfig
    needs = frozenset({Need.PAIR})

    def __init__(self, config: ClassifyConfig, width: int) -> None:
        super().__init__(config)
        width *= config.images
        self.hidden = nn.Linear(width, 2 * (width // config.images))
        self.hidden_norm = nn.LayerNorm(self.hidden.out_features)
        self.output = nn.Linear(self.hidden.out_features, config.num_classes)
        for layer in (self.hidden, self.output):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    @classmethod
    def for_model(cls, config: ClassifyConfig, model: Any) -> Classify:
        """With a head of the model's width."""
        if not isinstance(model, PairEncoder):
            raise ConfigError(
                f"classify needs a model that reads text and picture together; {type(model).__name__} does not"
            )
        return cls(config, model.width)

    def forward(self, step: Step) -> LossOutput:
        """The loss of one step; metrics: accuracy, the mean score of the class that scores highest."""
        targets = step.batch.query.dense["targets"]
        if targets.dim() == 2 and targets.shape[1] != self.config.num_classes:
            raise ConfigError(
                f"the rows have scores for {targets.shape[1]} classes, the objective has num_classes = "
                f"{self.config.num_classes}; the answer vocabulary must be the one it was made with"
            )
        logits = self.logits(step).float()
        best = logits.detach().argmax(1)
        if targets.dim() == 1:
            return LossOutput(cross_entropy(logits, targets), {"accuracy": (best == targets).float().mean()})
        loss = binary_cross_entropy_with_logits(logits, targets) * self.config.num_classes
        return LossOutput(loss, {"accuracy": targets.gather(1, best[:, None]).mean()})

    def logits(self, step: Step) -> Tensor:
        """[B, C]."""
        if self.config.images == 1:
            return self.head(step.pair().pooled)
        pixels = step.image.dense["pixel_values"]
        if pixels.dim() != 5 or pixels.shape[1] != 2:
            raise ConfigError(f"classify with images: 2 needs rows with two pictures each, got {tuple(pixels.shape)}")
        pooled = []
        for number in range(2):
            kind = torch.full((len(pixels),), number + 1, device=pixels.device)
            image = Inputs({"pixel_values": pixels[:, number], "image_type": kind})
            pooled.append(step.pair_encoder.encode_pair(step.text, image).pooled)
        return self.head(torch.cat(pooled, 1))

    def head(self, pooled: Tensor) -> Tensor:
        """[B, images x H] -> [B, C]."""
        return self.output(nn.functional.gelu(self.hidden_norm(self.hidden(pooled))))
