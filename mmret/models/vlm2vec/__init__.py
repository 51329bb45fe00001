"""VLM2Vec: a vision-language model as one encoder of anything. The models themselves are in `backbones`."""

from mmret.models.vlm2vec.config import VLM2VecConfig
from mmret.models.vlm2vec.model import VLM2Vec
from mmret.models.vlm2vec.processor import VLM2VecProcessor

__all__ = ["VLM2Vec", "VLM2VecConfig", "VLM2VecProcessor"]
