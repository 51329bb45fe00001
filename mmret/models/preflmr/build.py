"""From the model section to towers, vocabulary and picture settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mmret.errors import ConfigError
from mmret.models.backbones import (
    PictureSettings,
    TextSpec,
    TextTokenizer,
    VisionSpec,
    find_local,
    load_text,
    load_vision,
    local_folder,
    vision_spec,
)
from mmret.models.backbones.text import TINY
from mmret.models.preflmr.config import PreFLMRConfig
from mmret.models.preflmr.mapping import ACTIVATIONS

if TYPE_CHECKING:
    from mmret.models.preflmr.model import PreFLMR


def vision_spec_of(config: PreFLMRConfig, *, download: bool = True) -> VisionSpec | None:
    """The tower's architecture; None for a text-only model."""
    return None if config.vision is None else vision_spec(config.vision, config.image_px, download=download)


def picture_settings(config: PreFLMRConfig, spec: VisionSpec) -> PictureSettings:
    """The tower's preprocessing, with what the recipe sets otherwise."""
    mean, std = tuple(config.image_mean or spec.mean), tuple(config.image_std or spec.std)
    return PictureSettings(spec.px, mean, std, config.image_fit or spec.fit, config.image_decode)


def tokenizer_of(config: PreFLMRConfig) -> TextTokenizer:
    """The vocabulary that the recipe names, or the text encoder's.

    Raises:
        ConfigError: not here and not to be had.
    """
    name = config.tokenizer or config.text
    if name == TINY:
        return TextTokenizer.tiny()
    return tokenizer_in(find_local(name) or local_folder(name, "model.tokenizer", weights=False))


def tokenizer_in(folder: Path) -> TextTokenizer:
    """The tokenizer of a checkpoint, in the folders where ours and published ones keep it."""
    for inside in ("tokenizer", "query_tokenizer", "context_tokenizer"):
        if (folder / inside).is_dir():
            return TextTokenizer.from_folder(folder / inside)
    return TextTokenizer.from_folder(folder)


def load_towers(model: PreFLMR) -> None:
    """Pretrained weights into a new model: text encoders (with ColBERT's projection, if there is one) and vision."""
    config = model.config
    if config.text != TINY:
        encoder, projection = load_text(config.text, config.dim)
        for role in ("document", "query"):
            model.text_tower(role).load_state_dict(encoder.state_dict())
            if projection is not None:
                model.text_linear(role).load_state_dict({"weight": projection})
    if model.vision is not None and model.vision_spec is not None and config.vision is not None:
        loaded = load_vision(config.vision, model.vision_spec, config.vision_weights)
        model.vision.load_state_dict(loaded.state_dict())


def check_sizes(config: PreFLMRConfig, text: TextSpec) -> None:
    """Do the settings fit the text encoder?

    Raises:
        ConfigError: they do not.
    """
    problems = [
        f"model.{key} is {getattr(config, key)}, but the text encoder has positions for {text.max_tokens}; lower it"
        for key in ("query_tokens", "document_tokens")
        if getattr(config, key) > text.max_tokens
    ]
    heads = config.mapping_heads or max(1, text.width // 64)
    if config.maps_patches and text.width % heads:
        problems.append(f"model.mapping_heads: {heads} heads do not divide the text encoder's width {text.width}")
    if config.mapping_activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        problems.append(f"model.mapping_activation: unknown '{config.mapping_activation}'; known: {known}")
    if problems:
        raise ConfigError("\n".join(problems))
