"""A backbone put together from parts: any vision tower, a connector, any causal language model (LLaVA's plan)."""

# n pictures, P patches of each, D width of the tower

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from omegaconf import MISSING
from PIL import Image
from tokenizers import AddedToken
from torch import Tensor, nn

from mmret.errors import ConfigError
from mmret.models.backbones.composed import CONNECTORS, ComposedModel
from mmret.models.backbones.language import (
    TINY_CONFIG,
    completed_language,
    language_config,
    language_tokenizer,
    load_language,
)
from mmret.models.backbones.picture import PictureSettings, pixels
from mmret.models.backbones.tokenizer import TextTokenizer
from mmret.models.backbones.vision import VisionSpec, build_vision, load_vision, vision_spec
from mmret.models.backbones.vlm_family import Family, RowPictures

COMPOSED = "composed"
"""`model.backbone` of such a model, and its `model_type`."""


@dataclass
class ComposedConfig:
    """The parts. Only the connector starts random: it is what a first stage trains."""

    vision: str = MISSING
    """Hub id or folder (CLIP, SigLIP), `open_clip:NAME/PRETRAINED`, `timm:NAME`, `tiny`."""
    vision_weights: str | None = None
    """Weight file for the tower (`package:PACKAGE/FILE` or a path); null: the tower's own source."""
    image_px: int | None = None
    """Width and height of a picture; null: the tower's."""
    image_mean: list[float] | None = None
    """Per channel, of values in [0, 1]; null: the tower's."""
    image_std: list[float] | None = None
    image_fit: str | None = None
    """crop: centre square; squash: the whole picture, its shape changed; null: the tower's."""
    language: str = MISSING
    """Hub id, folder, or `.gguf` file (llama kind) of a causal language model, `package:PACKAGE/PATH`, `tiny`."""
    layers: int | None = None
    """Keep the language model's first so many blocks; null: all."""
    connector: str = "mlp"
    """mlp: two layers, as LLaVA-1.5 (Liu et al. 2023); linear: one, as LLaVA."""

    def __post_init__(self) -> None:
        if self.connector not in CONNECTORS:
            raise ConfigError(f"connector must be one of {', '.join(CONNECTORS)}, got '{self.connector}'")


class Composed(Family):
    """Square pictures of one size: P tokens each."""

    SPECIAL = ("<image>",)
    PLACEHOLDER = "<image>"
    PADDING = "right"

    @classmethod
    def tiny_config(cls, vocabulary: int, ids: Mapping[str, int | None]) -> dict[str, Any]:
        """About 40,000 parameters."""
        return {
            "vision": vision_spec("tiny").to_dict(),
            "language": {**TINY_CONFIG, "vocab_size": vocabulary - 1},
            "connector": "mlp",
            "image_token_id": ids["<image>"],
        }

    @classmethod
    def tiny_pictures(cls) -> dict[str, Any]:
        """The tower's own."""
        tower = vision_spec("tiny")
        return {"px": tower.px, "mean": list(tower.mean), "std": list(tower.std), "fit": tower.fit}

    @classmethod
    def completed(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The language model's defaults filled in."""
        return {**config, "language": completed_language(config["language"])}

    @classmethod
    def build(cls, config: Mapping[str, Any], dtype: torch.dtype, attention: str) -> nn.Module:
        """All parts with random weights."""
        return ComposedModel(config, dtype, attention)

    def image_processor(self, settings: dict[str, Any], limits: dict[str, int]) -> PictureSettings:
        """Nothing but a size; `limits` has no effect."""
        mean, std = tuple(settings["mean"]), tuple(settings["std"])
        return PictureSettings(settings["px"], mean, std, settings["fit"])

    def pictures(self, images: Sequence[Image.Image]) -> RowPictures:
        """pixel_values [n, 3, px, px]."""
        values = torch.stack([pixels(self.square(image), self.processor) for image in images])
        return RowPictures({"pixel_values": values}, [self.num_patches] * len(images))

    def seen(self, features: Tensor, count: int) -> RowPictures:
        """`pictures` of `count` pictures whose patches [count x P, D] were made earlier."""
        rows = features.view(count, self.num_patches, -1)
        return RowPictures({"vision_features": rows}, [self.num_patches] * count)

    @cached_property
    def num_patches(self) -> int:
        """P."""
        with torch.device("meta"):
            return int(build_vision(VisionSpec.from_dict(self.config["vision"])).num_patches)  # pyright: ignore[reportArgumentType]

    def empty(self, name: str) -> Tensor:
        """[0, 3, px, px] pixels; for features anything empty, as the other rows say their width."""
        px = self.processor.px
        return torch.empty(0, 3, px, px) if name == "pixel_values" else torch.empty(0)


def composed_parts(config: ComposedConfig, *, download: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
    """`VLMSpec`'s configuration and picture settings.

    Raises:
        ConfigError: a part is not here and not to be had.
    """
    vision = vision_spec(config.vision, config.image_px, download=download)
    language = language_config(config.language, config.layers, download=download)
    tokens = language["vocab_size"] if not download else len(composed_tokenizer(config)) - 1
    parts = {
        "model_type": COMPOSED,
        "vision": vision.to_dict(),
        "language": language,
        "connector": config.connector,
        "image_token_id": tokens,
    }
    return parts, {
        "px": vision.px,
        "mean": list(config.image_mean or vision.mean),
        "std": list(config.image_std or vision.std),
        "fit": config.image_fit or vision.fit,
    }


def composed_tokenizer(config: ComposedConfig) -> TextTokenizer:
    """The language model's, with one more token for a picture."""
    tokenizer = language_tokenizer(config.language)
    tokenizer.backend.add_special_tokens([AddedToken(Composed.PLACEHOLDER, special=True, normalized=False)])
    return tokenizer


def load_parts(model: ComposedModel, config: ComposedConfig) -> None:
    """Pretrained weights of both towers, in place; the connector keeps its random ones.

    Raises:
        ConfigError: weights are not here and not to be had.
        CheckpointError: they do not fit.
    """
    tower = load_vision(config.vision, model.vision_spec, config.vision_weights)
    model.vision.load_state_dict(tower.state_dict())
    load_language(model.language, config.language)
