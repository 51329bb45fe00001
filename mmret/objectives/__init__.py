"""Step -> loss. An objective owns its parameters; it knows no trainer, no rank, no model class."""

from mmret.objectives.classify import Classify, ClassifyConfig
from mmret.objectives.distill import KLDistillation, KLDistillationConfig, MarginMSE, MarginMSEConfig
from mmret.objectives.hard_negative import HardNegative, HardNegativeConfig
from mmret.objectives.itc import ITC, ITCConfig
from mmret.objectives.itm import ITM, ITMConfig
from mmret.objectives.mim import MIM, MIMConfig
from mmret.objectives.mlm import MLM, MLMConfig
from mmret.objectives.objective import LossOutput, Objective
from mmret.objectives.step import Step
from mmret.objectives.store import load_objectives, save_objectives, stored_state

OBJECTIVES: dict[str, type[Objective]] = {
    "classify": Classify,
    "hard_negative": HardNegative,
    "itc": ITC,
    "itm": ITM,
    "kl_distillation": KLDistillation,
    "margin_mse": MarginMSE,
    "mim": MIM,
    "mlm": MLM,
}
"""What `name:` in a recipe's objective section may say."""

__all__ = [
    "ITC",
    "ITM",
    "MIM",
    "MLM",
    "OBJECTIVES",
    "Classify",
    "ClassifyConfig",
    "HardNegative",
    "HardNegativeConfig",
    "ITCConfig",
    "ITMConfig",
    "KLDistillation",
    "KLDistillationConfig",
    "LossOutput",
    "MIMConfig",
    "MLMConfig",
    "MarginMSE",
    "MarginMSEConfig",
    "Objective",
    "Step",
    "load_objectives",
    "save_objectives",
    "stored_state",
]
