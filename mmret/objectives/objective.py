"""The interface of a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from mmret.objectives.step import Step
from mmret.types import Need


@dataclass(frozen=True)
class LossOutput:
    """A scalar to minimise, and detached scalars to log."""

    loss: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


class Objective(nn.Module, ABC):
    """Step -> loss, the mean over this rank's queries; `config.weight` is applied by the training module."""

    Config: ClassVar[type]
    needs: ClassVar[frozenset[Need]] = frozenset()
    """What it asks for beyond embeddings."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def for_model(cls, config: Any, model: Any) -> Objective:
        """The objective with heads of the model's sizes; default: it needs none.

        Raises:
            ConfigError: the model lacks what the objective asks for.
        """
        return cls(config)

    def prepare(self) -> None:
        """Open what the loss reads beside the model, before training begins; default: nothing.

        Raises:
            ConfigError: it is not here, or is not for this model.
        """

    @abstractmethod
    def forward(self, step: Step) -> LossOutput:
        """The loss of one step."""
