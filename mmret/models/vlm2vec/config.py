"""The recipe's model section for VLM2Vec; also what a checkpoint's config.json holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from mmret.errors import ConfigError

CHOICES = {
    "positions": ("text_1d", "mrope"),
    "padding": (None, "left", "right"),
    "dtype": ("float32", "bfloat16"),
    "attention": ("sdpa", "eager", "flash_attention_2"),
}


@dataclass
class VLM2VecConfig:
    """VLM2Vec (Jiang et al. 2024) and its second version (Meng et al. 2025)."""

    name: str = "vlm2vec"

    backbone: str = MISSING
    """Hub id, folder, `package:PACKAGE/FOLDER`, or `tiny` (`tiny:llava_next`, ...)."""
    positions: str = "text_1d"
    """text_1d: every token counts one further, pictures' too, as all released VLM2Vec models were trained and measured;
    mrope: as the backbone was pretrained (Qwen's time, height and width)."""
    padding: str | None = None
    """left | right; null: as the backbone's published checkpoints."""
    max_length: int | None = None
    """Most tokens of a row; text beyond it is cut off, pictures never. null: no limit."""
    square_px: int | None = None
    """First make every picture a square of this side (VLM2Vec 1: 1344); null: keep its shape."""
    min_pixels: int | None = None
    """Limits of a picture's area, for backbones that keep its shape; null: the backbone's own."""
    max_pixels: int | None = None
    dtype: str = "float32"
    """float32 | bfloat16: of the weights. With bfloat16 let lr_scale train adapters only: small updates get lost."""
    attention: str = "sdpa"
    """sdpa | eager | flash_attention_2"""
    gradient_checkpointing: bool = False
    """Keep no activations inside the backbone; about a third more computation. Smaller GradCache chunks come first."""
    peft: dict[str, Any] = field(default_factory=dict)
    """Adapters: `type:` lora, dora or another of peft's, the rest as in peft's configuration of it; empty: none.
    What trains says lr_scale: {"lora_": 1, ".*": 0} trains the adapters only."""

    def __post_init__(self) -> None:
        for key, allowed in CHOICES.items():
            value = getattr(self, key)
            if value not in allowed:
                words = ", ".join("null" if choice is None else choice for choice in allowed)
                raise ConfigError(f"model.{key}: '{value}'; want one of {words}")
        for key in ("max_length", "square_px", "min_pixels", "max_pixels"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ConfigError(f"model.{key} must be >= 1, got {value}")
