"""PaliGemma: every picture as one square; pictures and prompt are a prefix whose tokens all see each other."""

# n pictures of a row; S side of a square in pixels

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mmret.models.backbones.tokenizer import TextTokenizer
from mmret.models.backbones.vlm_family import Family, RowPictures


class PaliGemma(Family):
    """PaliGemma (Beyer et al. 2024) and PaliGemma 2 (Steiner et al. 2024)."""

    SPECIAL = ("<pad>", "<eos>", "<bos>", "<image>")
    PLACEHOLDER = "<image>"
    CAUSAL = False

    @classmethod
    def tiny_config(cls, vocabulary: int, ids: Mapping[str, int | None]) -> dict[str, Any]:
        """About 50,000 parameters."""
        return {
            "text_config": {
                "model_type": "gemma",
                "vocab_size": vocabulary,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "head_dim": 16,
                "max_position_embeddings": 512,
                "bos_token_id": ids["<bos>"],
                "eos_token_id": ids["<eos>"],
                "pad_token_id": ids["<pad>"],
            },
            "vision_config": {
                "model_type": "siglip_vision_model",
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": 28,
                "patch_size": 14,
                "vision_use_head": False,
            },
            "projection_dim": 32,
            "image_token_index": ids["<image>"],
        }

    @classmethod
    def tiny_pictures(cls) -> dict[str, Any]:
        """Squares of 28 px, four tokens each."""
        half = [0.5, 0.5, 0.5]
        return {"size": {"height": 28, "width": 28}, "image_mean": half, "image_std": half}

    def image_processor(self, settings: dict[str, Any], limits: dict[str, int]) -> Any:
        """The published settings."""
        from transformers import SiglipImageProcessorPil

        settings.pop("image_processor_type", None)
        return SiglipImageProcessorPil(**settings)

    def prompt(self, text: str) -> str:
        """As pretrained: the begin token behind the last picture, a newline at the end."""
        ends = [text.rfind(token) + len(token) for token in (self.PLACEHOLDER, self.VIDEO_PLACEHOLDER) if token in text]
        end = max(ends, default=0)
        return f"{text[:end]}<bos>{text[end:]}\n"

    def prompt_ids(self, tokenizer: TextTokenizer, prompt: str) -> list[int]:
        """Without the tokenizer's own begin token."""
        return tokenizer.backend.encode(prompt, add_special_tokens=False).ids

    def pictures(self, images: Sequence[Image.Image]) -> RowPictures:
        """pixel_values [n, 3, S, S]."""
        ready = [self.square(image) for image in images]
        pixels = self.processor(images=ready, return_tensors="pt")["pixel_values"].float()
        vision = self.config["vision_config"]
        return RowPictures({"pixel_values": pixels}, [(vision["image_size"] // vision["patch_size"]) ** 2] * len(ready))

    def token_arguments(self, ids: Tensor) -> dict[str, Tensor]:
        """All tokens [B, L] are prefix."""
        return {"token_type_ids": torch.zeros_like(ids)}

    def empty(self, name: str) -> Tensor:
        """[0, 3, S, S]."""
        side = self.config["vision_config"]["image_size"]
        return torch.empty(0, 3, side, side)
