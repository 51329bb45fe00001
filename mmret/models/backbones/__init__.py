"""Pretrained towers, tokenizers and picture preprocessing. Nothing outside this package touches a model hub."""

from mmret.models.backbones.picture import PictureSettings, black, pixels, resized
from mmret.models.backbones.source import find_local, local_folder
from mmret.models.backbones.text import TextSpec, build_text, load_text, text_spec
from mmret.models.backbones.tokenizer import TextTokenizer
from mmret.models.backbones.vision import VisionSpec, build_vision, load_vision, vision_spec

__all__ = [
    "PictureSettings",
    "TextSpec",
    "TextTokenizer",
    "VisionSpec",
    "black",
    "build_text",
    "build_vision",
    "find_local",
    "load_text",
    "load_vision",
    "local_folder",
    "pixels",
    "resized",
    "text_spec",
    "vision_spec",
]
