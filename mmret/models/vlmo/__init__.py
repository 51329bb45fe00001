"""VLMo: the Multiway transformer, its weights and its inputs. Losses and their heads belong to `mmret.objectives`."""

from mmret.models.vlmo.config import SIZES, VLMoConfig
from mmret.models.vlmo.convert import from_published, read_container, to_published
from mmret.models.vlmo.model import VLMo
from mmret.models.vlmo.presets import LANGUAGE_STAGE, RELEASED_NO_DECAY, VISION_STAGE
from mmret.models.vlmo.processor import VLMoProcessor

__all__ = [
    "LANGUAGE_STAGE",
    "RELEASED_NO_DECAY",
    "SIZES",
    "VISION_STAGE",
    "VLMo",
    "VLMoConfig",
    "VLMoProcessor",
    "from_published",
    "read_container",
    "to_published",
]
