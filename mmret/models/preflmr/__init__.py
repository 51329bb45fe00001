"""PreFLMR: its model, mapping network, processor and checkpoints. Nothing here knows a loss or a trainer."""

from mmret.models.preflmr.config import PreFLMRConfig
from mmret.models.preflmr.convert import load_published, to_published
from mmret.models.preflmr.model import PreFLMR
from mmret.models.preflmr.processor import PreFLMRProcessor

__all__ = ["PreFLMR", "PreFLMRConfig", "PreFLMRProcessor", "load_published", "to_published"]
