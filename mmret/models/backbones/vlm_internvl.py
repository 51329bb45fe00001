"""InternVL: a picture as the grid of square tiles that fits its shape best, then the whole of it as one more tile."""

# T tiles of a row; S side of a tile in pixels

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mmret.models.backbones.vlm_family import Family, Film, RowPictures


class InternVL(Family):
    """InternVL 3 and 3.5 in transformers' layout (Zhu et al. 2025)."""

    SPECIAL = ("<|endoftext|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>")
    PLACEHOLDER, VIDEO_PLACEHOLDER = "<IMG_CONTEXT>", "<video>"
    LIMITS = ("max_tiles",)

    @classmethod
    def tiny_config(cls, vocabulary: int, ids: Mapping[str, int | None]) -> dict[str, Any]:
        """About 60,000 parameters."""
        return {
            "text_config": {
                "model_type": "qwen2",
                "vocab_size": vocabulary,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "max_position_embeddings": 512,
                "eos_token_id": ids["<|endoftext|>"],
                "pad_token_id": ids["<|endoftext|>"],
            },
            "vision_config": {
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": [56, 56],
                "patch_size": [14, 14],
            },
            "image_token_id": ids["<IMG_CONTEXT>"],
            "image_seq_length": 4,
            "downsample_ratio": 0.5,
        }

    @classmethod
    def tiny_pictures(cls) -> dict[str, Any]:
        """At most four tiles of 56 px, four tokens each."""
        return {"size": {"height": 56, "width": 56}, "min_patches": 1, "max_patches": 4}

    def image_processor(self, settings: dict[str, Any], limits: dict[str, int]) -> Any:
        """The published settings. Files say that pictures are not cut up, and the published processor cuts them all."""
        from transformers import GotOcr2ImageProcessorPil

        settings.pop("image_processor_type", None)
        if "max_tiles" in limits:
            settings["max_patches"] = limits["max_tiles"]
        return GotOcr2ImageProcessorPil(**{**settings, "crop_to_patches": True})

    def pictures(self, images: Sequence[Image.Image], whole: bool = False) -> RowPictures:
        """pixel_values [T, 3, S, S] of n pictures; `whole`: one tile each."""
        ready = [self.square(image) for image in images]
        out = self.processor(images=ready, return_tensors="pt", crop_to_patches=not whole)
        places = [int(count) * self.tokens for count in out["num_patches"]]
        markup = [f"<img>{self.PLACEHOLDER}</img>"] * len(places)
        return RowPictures({"pixel_values": out["pixel_values"].float()}, places, markup)

    def videos(self, videos: Sequence[Film]) -> RowPictures:
        """Frames as numbered pictures of one tile, each in its own line."""
        seen = self.frames([self.pictures(film.frames, whole=True) for film in videos])
        shown = f"<img>{self.PLACEHOLDER}</img>"
        markup = ["\n".join(f"Frame{i}: {shown}" for i in range(1, len(film.frames) + 1)) for film in videos]
        return RowPictures(seen.tensors, seen.places, markup)

    @property
    def tokens(self) -> int:
        """Of one tile."""
        vision = self.config["vision_config"]
        patches = (vision["image_size"][0] // vision["patch_size"][0]) ** 2
        return round(patches * self.config["downsample_ratio"] ** 2)

    def empty(self, name: str) -> Tensor:
        """[0, 3, S, S] tiles."""
        height, width = self.config["vision_config"]["image_size"]
        return torch.empty(0, 3, height, width)
