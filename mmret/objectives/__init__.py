"""Step -> loss. An objective owns its parameters; it knows no trainer, no rank, no model class."""

from mmret.objectives.hard_negative import HardNegative, HardNegativeConfig
from mmret.objectives.itc import ITC, ITCConfig
from mmret.objectives.objective import LossOutput, Objective
from mmret.objectives.step import Step

OBJECTIVES: dict[str, type[Objective]] = {"hard_negative": HardNegative, "itc": ITC}
"""What `name:` in a recipe's objective section may say."""

__all__ = [
    "ITC",
    "OBJECTIVES",
    "HardNegative",
    "HardNegativeConfig",
    "ITCConfig",
    "LossOutput",
    "Objective",
    "Step",
]
