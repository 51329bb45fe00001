"""Architectures behind one interface: two encoders and a score. Nothing here knows losses, ranks or recipes."""

from mmret.models.load import load
from mmret.models.preflmr import PreFLMR, PreFLMRConfig
from mmret.models.retriever import MaskedImageEncoder, PairEncoder, Retriever
from mmret.models.vlm2vec import VLM2Vec, VLM2VecConfig
from mmret.models.vlmo import VLMo, VLMoConfig

MODELS: dict[str, type[Retriever]] = {"preflmr": PreFLMR, "vlm2vec": VLM2Vec, "vlmo": VLMo}
"""What `name:` in a recipe's model section may say."""

__all__ = [
    "MODELS",
    "MaskedImageEncoder",
    "PairEncoder",
    "PreFLMR",
    "PreFLMRConfig",
    "Retriever",
    "VLM2Vec",
    "VLM2VecConfig",
    "VLMo",
    "VLMoConfig",
    "load",
]
