"""The recipe's model section for VLMo, its published sizes, and what a checkpoint's config.json holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mmret.errors import ConfigError

SIZES: dict[str, dict[str, Any]] = {
    "base": {"width": 768, "depth": 12, "heads": 12, "vl_layers": 2, "positions": "relative", "layer_scale": 0.1},
    "base_plus": {"width": 544, "depth": 24, "heads": 16, "vl_layers": 3, "positions": "absolute", "layer_scale": 0.0},
    "large": {"width": 1024, "depth": 24, "heads": 16, "vl_layers": 3, "positions": "relative", "layer_scale": 0.1},
    "tiny": {"width": 32, "depth": 3, "heads": 2, "vl_layers": 1, "positions": "relative", "layer_scale": 0.1},
}
"""Base and large have a relative position table and layer scale; base-plus has absolute positions and neither."""

CHOICES = {
    "positions": ("relative", "absolute"),
    "contrastive": ("both", "main", "none"),
    "attention": ("sdpa", "eager"),
    "vl_experts_from": (None, "text", "image"),
    "image_fit": ("squash", "crop"),
    "image_decode": ("full", "scaled"),
}


@dataclass
class VLMoConfig:
    """VLMo (Bao et al. 2022). What is null is the size's value."""

    name: str = "vlmo"
    size: str = "base"
    """base | base_plus | large | tiny"""
    weights: str | None = None
    """Where training starts: a BEiT or VLMo checkpoint file, or a folder of ours; null: random."""
    tokenizer: str = "bert-base-uncased"
    """Hub id or folder of the WordPiece vocabulary, or `tiny`."""
    vocabulary: int | None = None
    """Number of token embeddings; null: the tokenizer's."""

    width: int | None = None
    depth: int | None = None
    """Number of blocks."""
    heads: int | None = None
    vl_layers: int | None = None
    """The last so many blocks have a vision-language expert; 0: none (the language stage)."""
    positions: str | None = None
    """relative: one table of biases for all layers; absolute: embeddings added to the input."""
    layer_scale: float | None = None
    """Start value of the per-channel factors on each branch; 0: no such factors."""
    multiway: bool = True
    """Off: one feed-forward network per block for everything, a standard transformer (the paper's ablation)."""
    shared_attention: bool = True
    """Off: text, picture and vision-language input have their own attention weights (the paper's ablation)."""
    contrastive: str = "both"
    """both: heads "main" and "vl" (pretraining); main: as retrieval needs, VL experts not read; none: no retrieval."""
    vl_experts_from: str | None = None
    """text | image: new VL experts start as copies of these at a hand-over; null: fresh, as published."""

    image_px: int = 224
    """Width and height of a picture."""
    patch_px: int = 16
    image_fit: str = "squash"
    """squash: the whole picture, its shape changed, as VLMo evaluates; crop: centre square."""
    image_decode: str = "full"
    """full: every pixel; scaled: of large JPEGs 1/2, 1/4 or 1/8 of each side, at least twice image_px: faster."""
    image_types: int = 1
    """2: the second picture of a pair has its own type embedding (NLVR2)."""
    max_text_tokens: int = 40
    """Longest text with its two special tokens. Batches are padded to their own longest text only."""
    relative_text_span: int = 196
    """Text length that the relative table has rows for: that of the language stage, whatever `max_text_tokens` is."""

    drop_path: float = 0.1
    """Probability that a branch of the last block is left out for a row; linear from 0 over depth."""
    text_dropout: float | None = None
    """On the text embeddings; null: `drop_path`, as published."""
    attention: str = "sdpa"
    """sdpa: torch's fused kernels. eager: scores and softmax in float32 as published. Equal in float32; in half
    precision the kernels also add up in float32 but round the position bias to half."""
    checkpoint_blocks: bool = False
    """Recompute blocks in the backward pass: one layer's states are alive at a time, for a third more time. (Position
    biases are never kept, with or without.)"""

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise ConfigError(f"model.size must be one of {', '.join(SIZES)}, got '{self.size}'")
        problems = [
            f"model.{key} must be one of {', '.join(map(str, choices))}, got '{getattr(self, key)}'"
            for key, choices in CHOICES.items()
            if getattr(self, key) not in choices and not (key == "positions" and self.positions is None)
        ]
        shape = self.shape
        if self.image_px % self.patch_px or self.image_px < self.patch_px:
            below = max(self.image_px // self.patch_px, 1) * self.patch_px
            problems.append(
                f"model.image_px must be a multiple of patch_px = {self.patch_px}, got {self.image_px}; "
                f"nearest: {below} or {below + self.patch_px}"
            )
        if shape["width"] % shape["heads"]:
            problems.append(f"model.width {shape['width']} is not divisible by model.heads {shape['heads']}")
        if not 0 <= shape["vl_layers"] <= shape["depth"]:
            problems.append(f"model.vl_layers must be 0 to depth = {shape['depth']}, got {shape['vl_layers']}")
        if self.max_text_tokens < 3:
            problems.append(f"model.max_text_tokens must be at least 3, got {self.max_text_tokens}")
        if shape["positions"] == "relative" and self.max_text_tokens > self.relative_text_span:
            problems.append(
                f"model.max_text_tokens {self.max_text_tokens} is more than the relative table has rows for "
                f"(relative_text_span {self.relative_text_span})"
            )
        if self.image_types not in (1, 2):
            problems.append(f"model.image_types must be 1 or 2, got {self.image_types}")
        if not 0 <= self.drop_path < 1:
            problems.append(f"model.drop_path must be in [0, 1), got {self.drop_path}")
        if problems:
            raise ConfigError("\n".join(problems))

    @property
    def shape(self) -> dict[str, Any]:
        """width, depth, heads, vl_layers, positions, layer_scale: own values before the size's."""
        return {key: value if (own := getattr(self, key)) is None else own for key, value in SIZES[self.size].items()}

    @property
    def resolved(self) -> VLMoConfig:
        """The same with every value of the size filled in; what checkpoints store."""
        return replace(self, **self.shape)

    @property
    def window(self) -> int:
        """Patches along one side of the picture."""
        return self.image_px // self.patch_px

    @property
    def vl_start(self) -> int:
        """First block (from 0) with a VL expert; the depth if there is none."""
        shape = self.shape
        return shape["depth"] - (shape["vl_layers"] if self.multiway else 0)

    @property
    def heads_of(self) -> tuple[str, ...]:
        """Contrastive heads: "main" and, where blocks with VL experts allow it, "vl"."""
        if self.contrastive == "both" and self.vl_start < self.shape["depth"]:
            return ("main", "vl")
        return () if self.contrastive == "none" else ("main",)
