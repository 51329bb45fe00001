"""Frozen visual tokenizers: a picture to one number of a fixed vocabulary per patch, the labels of masked modelling."""

from mmret.models.visual_tokenizer.codebook import Codebook, CodebookConfig
from mmret.models.visual_tokenizer.dalle import DalleEncoder
from mmret.models.visual_tokenizer.fit import CodebookUsage, collect_features, fit_codebook
from mmret.models.visual_tokenizer.mean_colour import MeanColour
from mmret.models.visual_tokenizer.open import (
    find_visual_tokenizer,
    load_visual_tokenizer,
    visual_tokenizer_facts,
)
from mmret.models.visual_tokenizer.tokenizer import TokenizerFacts, VisualTokenizer

__all__ = [
    "Codebook",
    "CodebookConfig",
    "CodebookUsage",
    "DalleEncoder",
    "MeanColour",
    "TokenizerFacts",
    "VisualTokenizer",
    "collect_features",
    "find_visual_tokenizer",
    "fit_codebook",
    "load_visual_tokenizer",
    "visual_tokenizer_facts",
]
