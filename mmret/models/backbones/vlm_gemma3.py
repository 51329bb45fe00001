"""Gemma 3: every picture as one square; tokens of a picture see each other in both directions."""

# T squares of a row; S side of a square in pixels

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mmret.models.backbones.vlm_family import Family, Film, RowPictures

TOKEN = "<image_soft_token>"
PAN_AND_SCAN = {
    "pan_and_scan_min_crop_size": 256,
    "pan_and_scan_max_num_crops": 4,
    "pan_and_scan_min_ratio_to_activate": 1.2,
}
"""The published processor's values, which its files leave out."""


class Gemma3(Family):
    """Gemma 3 (Gemma Team 2025), the sizes that see (4B and up)."""

    SPECIAL = ("<pad>", "<eos>", "<bos>", "<start_of_image>", TOKEN, "<end_of_image>")
    PLACEHOLDER = "<start_of_image>"
    TOKEN = TOKEN
    CAUSAL = False
    LIMITS = ("max_tiles",)

    @classmethod
    def tiny_config(cls, vocabulary: int, ids: Mapping[str, int | None]) -> dict[str, Any]:
        """About 60,000 parameters: one layer sees all, one its last 16 tokens."""
        return {
            "text_config": {
                "vocab_size": vocabulary,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "head_dim": 16,
                "query_pre_attn_scalar": 16,
                "max_position_embeddings": 512,
                "layer_types": ["sliding_attention", "full_attention"],
                "sliding_window": 16,
                "bos_token_id": ids["<bos>"],
                "eos_token_id": ids["<eos>"],
                "pad_token_id": ids["<pad>"],
            },
            "vision_config": {
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": 56,
                "patch_size": 14,
                "vision_use_head": False,
            },
            "mm_tokens_per_image": 4,
            "boi_token_index": ids["<start_of_image>"],
            "eoi_token_index": ids["<end_of_image>"],
            "image_token_index": ids[TOKEN],
        }

    @classmethod
    def tiny_pictures(cls) -> dict[str, Any]:
        """Squares of 56 px, four tokens each; a long picture is cut where `max_tiles` asks for it."""
        return {"size": {"height": 56, "width": 56}, "pan_and_scan_min_crop_size": 20}

    def image_processor(self, settings: dict[str, Any], limits: dict[str, int]) -> Any:
        """The published settings; `max_tiles` above 1 also shows parts of a picture that is far from square."""
        from transformers import Gemma3ImageProcessorPil

        settings.pop("image_processor_type", None)
        for name, value in PAN_AND_SCAN.items():
            settings[name] = settings.get(name) or value
        if "max_tiles" in limits:
            settings["do_pan_and_scan"] = limits["max_tiles"] > 1
            settings["pan_and_scan_max_num_crops"] = limits["max_tiles"]
        return Gemma3ImageProcessorPil(**settings)

    def pictures(self, images: Sequence[Image.Image], whole: bool = False) -> RowPictures:
        """pixel_values [T, 3, S, S] of n pictures; `whole`: one square each."""
        ready = [self.square(image) for image in images]
        scans = {"do_pan_and_scan": False} if whole else {}
        out = self.processor(images=ready, return_tensors="pt", **scans)
        pixels = out["pixel_values"].float()
        markup = [self.markup(int(crops)) for crops in out["num_crops"]]
        return RowPictures({"pixel_values": pixels}, [self.config["mm_tokens_per_image"]] * len(pixels), markup)

    def videos(self, videos: Sequence[Film]) -> RowPictures:
        """Frames as pictures of one square."""
        return self.frames([self.pictures(film.frames, whole=True) for film in videos])

    def markup(self, crops: int) -> str:
        """What stands for a picture, and for so many parts of it, as pretrained."""
        one = f"\n\n{self.PLACEHOLDER}{TOKEN}<end_of_image>\n\n"
        if not crops:
            return one
        parts = " ".join([one] * crops)
        return f"Here is the original image {one} and here are some crops to help you see better {parts}"

    def token_arguments(self, ids: Tensor) -> dict[str, Tensor]:
        """Which tokens [B, L] are a picture's."""
        return {"token_type_ids": (ids == self.config["image_token_index"]).long()}

    def empty(self, name: str) -> Tensor:
        """[0, 3, S, S]."""
        side = self.config["vision_config"]["image_size"]
        return torch.empty(0, 3, side, side)
