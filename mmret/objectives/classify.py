"""One class of many: VQA's soft scores and NLVR2's true or false, from text and picture; ImageNet, from a picture."""

# B rows, C classes, P patches, H width

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
    """A two-layer head on the pooled state of one pair or, NLVR2, of two pairs side by side; or a linear one on the
    mean state of a picture's patches, as BEiT is fine-tuned (Bao et al. 2021, Sec. 2.6)."""

    name: str = "classify"
    weight: float = 1.0
    num_classes: int = MISSING
    """Of the data's `classes` file. VQAv2: 3129 answers; NLVR2: 2; ImageNet: 1000."""
    input: str = "pair"
    """pair: text and picture read together; image: the picture alone, through the image experts."""
    images: int = 1
    """2: each row's text is read with either of its two pictures (the second of type 2)."""
    smoothing: float = 0.0
    """Share of the target that goes to all classes alike (label smoothing); BEiT 0.1. For rows with one class only."""

    def __post_init__(self) -> None:
        if self.input not in ("pair", "image"):
            raise ConfigError(f"input must be pair or image, got '{self.input}'")
        if self.images not in (1, 2) or (self.images == 2 and self.input == "image"):
            raise ConfigError(f"images must be 1, or 2 with input: pair; got {self.images} with input: {self.input}")
        if self.num_classes != MISSING and self.num_classes < 2:
            raise ConfigError(f"num_classes must be at least 2, got {self.num_classes}")
        if not 0 <= self.smoothing < 1:
            raise ConfigError(f"smoothing must be in [0, 1), got {self.smoothing}")


class Classify(Objective):
    """Cross-entropy of one right class, or binary cross-entropy of soft scores, summed over classes."""

    Config = ClassifyConfig
    config: ClassifyConfig
    needs = frozenset({Need.PAIR, Need.TARGETS})

    def __init__(self, config: ClassifyConfig, width: int) -> None:
        super().__init__(config)
        if config.input == "pair":
            self.hidden = nn.Linear(width * config.images, 2 * width)
            self.hidden_norm = nn.LayerNorm(2 * width)
        self.output = nn.Linear(2 * width if config.input == "pair" else width, config.num_classes)
        for layer in (self.hidden, self.output) if config.input == "pair" else (self.output,):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    @classmethod
    def for_model(cls, config: ClassifyConfig, model: Any) -> Classify:
        """With a head of the model's width."""
        if not isinstance(model, PairEncoder):
            raise ConfigError(
                f"classify needs a model that reads text and picture together; {type(model).__name__} does not"
            )
        if config.images > model.image_types:
            raise ConfigError(
                "classify with images: 2 needs a model that tells the second picture of a pair apart; set "
                "model.image_types: 2"
            )
        return cls(config, model.width)

    def forward(self, step: Step) -> LossOutput:
        """The loss of one step; metrics: accuracy, the mean score of the class that scores highest."""
        targets = step.batch.targets
        if targets is None:
            raise ConfigError(
                "classify reads labels, and this batch has none; give each sample `label` or `labels`, and its data "
                "spec `classes`"
            )
        if targets.dim() == 2 and targets.shape[1] != self.config.num_classes:
            raise ConfigError(
                f"the rows have scores for {targets.shape[1]} classes, the objective has num_classes = "
                f"{self.config.num_classes}; the answer vocabulary must be the one it was made with"
            )
        logits = self.logits(step).float()
        best = logits.detach().argmax(1)
        if targets.dim() == 1:
            loss = cross_entropy(logits, targets, label_smoothing=self.config.smoothing)
            return LossOutput(loss, {"accuracy": (best == targets).float().mean()})
        loss = binary_cross_entropy_with_logits(logits, targets) * self.config.num_classes
        return LossOutput(loss, {"accuracy": targets.gather(1, best[:, None]).mean()})

    def logits(self, step: Step) -> Tensor:
        """[B, C].

        Raises:
            ConfigError: the rows have another number of pictures, or none, or no text.
        """
        self._check(step)
        if self.config.input == "image":
            return self.output(step.pair_encoder.encode_image(step.image)[:, 1:].mean(1))
        if self.config.images == 1:
            return self.head(step.pair().pooled)
        pixels = step.image.dense["pixel_values"]
        pooled = []
        for number in range(2):
            kind = torch.full((len(pixels),), number + 1, device=pixels.device)
            image = Inputs({"pixel_values": pixels[:, number], "image_type": kind})
            pooled.append(step.pair_encoder.encode_pair(step.text, image).pooled)
        return self.head(torch.cat(pooled, 1))

    def head(self, pooled: Tensor) -> Tensor:
        """[B, images x H] -> [B, C]."""
        return self.output(nn.functional.gelu(self.hidden_norm(self.hidden(pooled))))

    def _check(self, step: Step) -> None:
        sides = [side for side in (step.batch.query, step.batch.document) if side is not None]
        for name, what in (("pixel_values", "picture"), ("input_ids", "text")):
            if not any(name in side for side in sides) and not (name == "input_ids" and self.config.input == "image"):
                raise ConfigError(f"classify with input: {self.config.input} reads a {what}, and these rows have none")
        pixels = step.image.dense["pixel_values"]
        given = pixels.shape[1] if pixels.dim() == 5 else 1
        if given != self.config.images:
            wanted = "two pictures" if self.config.images == 2 else "one picture"
            raise ConfigError(
                f"classify with images: {self.config.images} needs rows with {wanted} each, got {tuple(pixels.shape)}"
            )
