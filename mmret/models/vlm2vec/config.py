"""The recipe's model section for VLM2Vec; also what a checkpoint's config.json holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from mmret.errors import ConfigError
from mmret.models.backbones.vlm_composed import COMPOSED, ComposedConfig

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
    """Hub id, folder, `package:PACKAGE/FOLDER`, `composed`, or `tiny` (`tiny:llava_next`, ...)."""
    composed: ComposedConfig | None = None
    """The parts, where `backbone` is `composed`."""
    positions: str = "text_1d"
    """text_1d: every token counts one further, pictures' too, as all released VLM2Vec models were trained and measured;
    mrope: as the backbone was pretrained (Qwen's time, height and width)."""
    padding: str | None = None
    """left | right; null: as the backbone's published checkpoints."""
    pictures_first: bool = True
    """Pictures stand before instruction and text, as published; false: behind them, where a causal model reads them in
    the light of the question and a picture's last patch is what is pooled. Placeholders in the data go before this."""
    use_instructions: bool = True
    """Off: contents are read without their instruction (an ablation). One that stands inside the text, as in MMEB's
    published strings, stays: pack the data without (`mmret data build mmeb --instructions none`)."""
    max_length: int | None = None
    """Most tokens of a row; text beyond it is cut off, pictures never (nor text before them: `pictures_first: false`).
    null: no limit."""
    end_token: str | None = None
    """A token of the vocabulary that ends every row, so that it is what is pooled, as <|endoftext|> in Qwen3 Embedding;
    also behind a text cut to `max_length`, which counts it. null: none, as published VLM2Vec models."""
    dim: int | None = None
    """Use the first so many numbers of each embedding, unit length again: for models trained with `matryoshka`, mostly
    at load (`mmret.load(folder, dim=256)`); null: all."""
    square_px: int | None = None
    """First make every picture a square of this side (VLM2Vec 1: 1344); null: keep its shape."""
    min_pixels: int | None = None
    """Limits of a picture's area, for backbones that keep its shape; null: the backbone's own."""
    max_pixels: int | None = None
    max_tiles: int | None = None
    """Most tiles of a picture, the whole one not counted, for backbones that cut it up; null: the backbone's own."""
    num_frames: int | None = 8
    """Most frames of a video, spread evenly (VLM2Vec 2: 8); null: all."""
    dtype: str = "float32"
    """float32 | bfloat16: of the weights. With bfloat16 train adapters only (they stay float32): small updates get
    lost."""
    attention: str = "sdpa"
    """sdpa | eager | flash_attention_2"""
    gradient_checkpointing: bool = False
    """Keep no activations inside the backbone; about a third more computation. Smaller GradCache chunks come first."""
    peft: dict[str, Any] = field(default_factory=dict)
    """Adapters: `type:` lora, dora, qlora, vera, ia3, prompt_tuning or another of peft's, the rest as in peft's
    configuration of it; empty: none. Where there are some they train, and nothing else but the objectives (`train`)."""

    def __post_init__(self) -> None:
        if isinstance(self.composed, dict):  # from a checkpoint's config.json
            self.composed = ComposedConfig(**self.composed)
        if (self.backbone == COMPOSED) != (self.composed is not None):
            raise ConfigError("model.composed names the parts of backbone: composed; give both or neither")
        for key, allowed in CHOICES.items():
            value = getattr(self, key)
            if value not in allowed:
                words = ", ".join("null" if choice is None else choice for choice in allowed)
                raise ConfigError(f"model.{key}: '{value}'; want one of {words}")
        for key in ("max_length", "dim", "square_px", "min_pixels", "max_pixels", "max_tiles", "num_frames"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ConfigError(f"model.{key} must be >= 1, got {value}")
        if self.end_token and self.max_length == 1:
            raise ConfigError("model.max_length: 1 has room for the end token alone (model.end_token)")
