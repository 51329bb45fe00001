"""Classification metrics: per-query values of a predicted class, and what one drawn by lot is expected to get."""

# Q queries, C classes

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mmret.data.classes import Target
from mmret.errors import ConfigError
from mmret.evaluation.names import nearest

ClassMetric = Callable[[Target, int], float]
"""Row's target, predicted class -> value in [0, 1]."""


def accuracy(target: Target, predicted: int) -> float:
    """1 if no class scores more than the predicted one, and it scores at all."""
    score = target.scores.get(predicted, 0.0)
    return float(score > 0 and score >= max(target.scores.values()))


def vqa_score(target: Target, predicted: int) -> float:
    """Score of the predicted class: how far ten people agree with it (VQA, Antol et al. 2015, Sec. 3); 1 or 0 where a
    row has one right class."""
    return target.scores.get(predicted, 0.0)


CLASS_METRICS: dict[str, ClassMetric] = {"accuracy": accuracy, "vqa_score": vqa_score}


def class_metric(name: str) -> ClassMetric:
    """A metric by its name.

    Raises:
        ConfigError: there is none.
    """
    if name not in CLASS_METRICS:
        raise ConfigError(f"unknown metric {name!r} of a classification; {nearest(name, CLASS_METRICS)}")
    return CLASS_METRICS[name]


def values_of(name: str, targets: Sequence[Target | None], predicted: Sequence[int]) -> Tensor:
    """[Q] float64; NaN for a query without target."""
    metric = class_metric(name)
    return torch.tensor(
        [math.nan if target is None else metric(target, number) for target, number in zip(targets, predicted)],
        dtype=torch.float64,
    )


def expected_of(name: str, targets: Sequence[Target | None]) -> Tensor:
    """[Q] float64: mean of the values that each class would get; NaN for a query without target."""
    metric = class_metric(name)
    # Classes that are not in the target's scores get 0 by either metric.
    return torch.tensor(
        [
            math.nan if target is None else sum(metric(target, number) for number in target.scores) / target.num_classes
            for target in targets
        ],
        dtype=torch.float64,
    )
