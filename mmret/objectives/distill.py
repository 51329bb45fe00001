"""Distillation: the scores of a query's own documents learn from those that a teacher gave them.

A sample brings `"scores": [...]`, one number for each of its `positives`, then one for each of its `negatives`, in
their order. Drawing keeps them aligned: `Batch.teacher_scores[i, 0]` is the drawn positive's, `[i, k]` that of the k-th
drawn negative; NaN for a negative drawn at random from the documents table, and for a row that brings no scores.
"""

# B queries, K documents of each query (its positive first)

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from mmret.errors import ConfigError
from mmret.objectives.objective import LossOutput, Objective
from mmret.objectives.step import Step
from mmret.types import Need


@dataclass
class KLDistillationConfig:
    """Kullback-Leibler divergence from the teacher's distribution over a query's documents (ColBERTv2, Sec. 3.2)."""

    name: str = "kl_distillation"
    weight: float = 1.0
    temperature: float = 1.0
    """The student's scores are divided by it."""
    teacher_temperature: float = 1.0
    """The teacher's scores are divided by it; a cross-encoder's logits want about 1."""

    def __post_init__(self) -> None:
        for field in ("temperature", "teacher_temperature"):
            if getattr(self, field) <= 0:
                raise ConfigError(f"{field} must be > 0, got {getattr(self, field)}")


class KLDistillation(Objective):
    """Mean over queries of KL(softmax(teacher / its temperature) || softmax(student / temperature)).

    Documents without a teacher's score are left out of both distributions, queries with fewer than two scored
    documents out of the mean.
    """

    Config = KLDistillationConfig
    config: KLDistillationConfig
    needs = frozenset({Need.DOCUMENT, Need.NEGATIVES})

    def forward(self, step: Step) -> LossOutput:
        """The loss of one step; metrics: share of queries whose best document the teacher puts first too."""
        teacher, known = _teacher(step)
        student = step.own_scores()
        # Left-out places get a large finite negative: -inf - -inf would be NaN.
        student = student.float().masked_fill(~known, _OUT) / self.config.temperature
        teacher = teacher.masked_fill(~known, _OUT) / self.config.teacher_temperature
        log_p, log_q = log_softmax(teacher, 1), log_softmax(student, 1)
        rows = known.sum(1) >= 2
        divergence = (log_p.exp() * (log_p - log_q)).masked_fill(~known, 0).sum(1)
        agreement = (student.argmax(1) == teacher.argmax(1)).float()
        return LossOutput(_mean(divergence, rows), {"agreement": _mean(agreement, rows).detach()})


@dataclass
class MarginMSEConfig:
    """Squared error of the margins between positive and negative (Hofstätter et al. 2020, Eq. 3)."""

    name: str = "margin_mse"
    weight: float = 1.0
    teacher_scale: float = 1.0
    """The teacher's margins are multiplied by it: they should span what sums of maxima span."""

    def __post_init__(self) -> None:
        if self.teacher_scale <= 0:
            raise ConfigError(f"teacher_scale must be > 0, got {self.teacher_scale}")


class MarginMSE(Objective):
    """Mean over (query, negative) of ((s_positive - s_negative) - scale * (t_positive - t_negative))^2.

    Pairs of which the teacher scored only one document, or none, are left out of the mean.
    """

    Config = MarginMSEConfig
    config: MarginMSEConfig
    needs = frozenset({Need.DOCUMENT, Need.NEGATIVES})

    def forward(self, step: Step) -> LossOutput:
        """The loss of one step; metrics: share of pairs that the student orders as the teacher does."""
        teacher, known = _teacher(step)
        student = step.own_scores().float()
        pairs = known[:, :1] & known[:, 1:]
        wanted = (teacher[:, :1] - teacher[:, 1:]).masked_fill(~pairs, 0) * self.config.teacher_scale
        margins = student[:, :1] - student[:, 1:]
        agreement = (margins.sign() == wanted.sign()).float()
        return LossOutput(_mean((margins - wanted) ** 2, pairs), {"agreement": _mean(agreement, pairs).detach()})


_OUT = -1e9


def _teacher(step: Step) -> tuple[Tensor, Tensor]:
    """[B, K] the teacher's scores in float32, and where it gave one."""
    scores = step.batch.teacher_scores
    if scores is None:
        sources = ", ".join(sorted(set(step.batch.sources))) or "this batch"
        raise ConfigError(
            f"distillation needs a teacher's scores, but the rows of {sources} bring none; give each sample `scores`: "
            "one number per positive, then one per negative"
        )
    scores = scores.float()
    known = scores.isfinite()
    return scores.masked_fill(~known, 0), known


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Mean of the values at True places; 0, with a gradient of 0, if there are none."""
    return torch.where(where, values, torch.zeros_like(values)).sum() / where.sum().clamp(min=1)
