"""LLaVA-NeXT (v1.6): the whole picture once, and tiles of it at the resolution that fits its shape best."""

# T tiles of a row, the whole picture's included; S side of a tile in pixels

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mmret.models.backbones.vlm_family import Family, RowPictures


class LlavaNext(Family):
    """LLaVA-NeXT (Liu et al. 2024)."""

    SPECIAL = ("<s>", "</s>", "<pad>", "<image>")
    PLACEHOLDER = "<image>"

    @classmethod
    def tiny_config(cls, vocabulary: int, ids: Mapping[str, int | None]) -> dict[str, Any]:
        """About 50,000 parameters."""
        return {
            "text_config": {
                "model_type": "mistral",
                "vocab_size": vocabulary,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "max_position_embeddings": 512,
                "sliding_window": None,
                "bos_token_id": ids["<s>"],
                "eos_token_id": ids["</s>"],
                "pad_token_id": ids["<pad>"],
            },
            "vision_config": {
                "model_type": "clip_vision_model",
                "hidden_size": 32,
                "intermediate_size": 48,
                "projection_dim": 32,
                "num_hidden_layers": 3,
                "num_attention_heads": 2,
                "image_size": 28,
                "patch_size": 14,
            },
            "image_token_index": ids["<image>"],
            "image_grid_pinpoints": [[28, 56], [56, 28], [56, 56]],
            "vision_feature_layer": -2,
            "vision_feature_select_strategy": "default",
        }

    @classmethod
    def tiny_pictures(cls) -> dict[str, Any]:
        """Tiles of 28 px, four patches each."""
        return {
            "size": {"shortest_edge": 28},
            "crop_size": {"height": 28, "width": 28},
            "image_grid_pinpoints": [[28, 56], [56, 28], [56, 56]],
        }

    def image_processor(self, settings: dict[str, Any], limits: dict[str, int]) -> Any:
        """The published settings; the grid of resolutions bounds the area, so `limits` has no effect."""
        from transformers import LlavaNextImageProcessorPil

        settings.pop("image_processor_type", None)
        settings.setdefault("image_grid_pinpoints", self.config["image_grid_pinpoints"])
        return LlavaNextImageProcessorPil(**settings)

    def pictures(self, images: Sequence[Image.Image]) -> RowPictures:
        """pixel_values [T, 3, S, S] and image_sizes [n, 2] (height, width) of n pictures."""
        tiles, sizes, places = [], [], []
        for image in map(self.square, images):
            tiles.append(self.processor(images=[image], return_tensors="pt")["pixel_values"][0].float())
            sizes.append([image.height, image.width])
            places.append(self.places(image.height, image.width))
        return RowPictures({"pixel_values": torch.cat(tiles), "image_sizes": torch.tensor(sizes)}, places)

    def places(self, height: int, width: int) -> int:
        """Tokens of a picture: its overview, its tiles without the borders that fill them up, one more per line."""
        side, patch = self.config["vision_config"]["image_size"], self.config["vision_config"]["patch_size"]
        best_height, best_width = self._resolution(height, width)
        per_tile = side // patch
        lines, columns = best_height // side * per_tile, best_width // side * per_tile
        # The picture was scaled to fit, and centred; borders are cut off evenly.
        if width * lines > columns * height:
            lines -= (lines - int(round(height * (columns / width), 7))) // 2 * 2
        else:
            columns -= (columns - int(round(width * (lines / height), 7))) // 2 * 2
        return per_tile**2 + lines * columns + lines

    def _resolution(self, height: int, width: int) -> tuple[int, int]:
        """The grid's resolution that keeps most of the picture's pixels, and among those wastes fewest of its own."""

        def fitness(resolution: Sequence[int]) -> tuple[int, int]:
            scale = min(resolution[1] / width, resolution[0] / height)
            kept = min(int(width * scale) * int(height * scale), width * height)
            return kept, kept - resolution[0] * resolution[1]

        best = max(self.config["image_grid_pinpoints"], key=fitness)
        return best[0], best[1]

    def empty(self, name: str) -> Tensor:
        """[0, 3, S, S] tiles or [0, 2] sizes."""
        if name == "image_sizes":
            return torch.empty(0, 2, dtype=torch.long)
        side = self.config["vision_config"]["image_size"]
        return torch.empty(0, 3, side, side)
