"""Idefics3 and SmolVLM: a picture scaled to a whole number of square tiles, then the whole of it as one more tile."""

# T tiles of a row; S side of a tile in pixels

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import isqrt
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from mmret.models.backbones.vlm_family import Family, Film, RowPictures

EDGE, WHOLE = "<fake_token_around_image>", "<global-img>"


class Idefics3(Family):
    """Idefics3 (Laurençon et al. 2024)."""

    SPECIAL = ("<|begin_of_text|>", "<|end_of_text|>", EDGE, "<image>", WHOLE)
    PLACEHOLDER = "<image>"
    LIMITS = ("max_tiles",)

    @classmethod
    def tiny_config(cls, vocabulary: int, ids: Mapping[str, int | None]) -> dict[str, Any]:
        """About 60,000 parameters."""
        return {
            "text_config": {
                "model_type": "llama",
                "vocab_size": vocabulary,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "head_dim": 16,
                "max_position_embeddings": 512,
                "bos_token_id": ids["<|begin_of_text|>"],
                "eos_token_id": ids["<|end_of_text|>"],
                "pad_token_id": ids["<|end_of_text|>"],
            },
            "vision_config": {
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": 56,
                "patch_size": 14,
            },
            "scale_factor": 2,
            "image_token_id": ids["<image>"],
        }

    @classmethod
    def tiny_pictures(cls) -> dict[str, Any]:
        """At most four tiles of 56 px, four tokens each."""
        return {"size": {"longest_edge": 112}, "max_image_size": {"longest_edge": 56}}

    def image_processor(self, settings: dict[str, Any], limits: dict[str, int]) -> Any:
        """The published settings. Every picture's longer side becomes `size`, so that and no more bounds its tiles."""
        settings.pop("image_processor_type", None)
        processor = self._processor_class()(**settings)
        if "max_tiles" in limits:
            side = processor.max_image_size["longest_edge"]
            settings["size"] = {"longest_edge": side * isqrt(limits["max_tiles"])}
            processor = self._processor_class()(**settings)
        return processor

    @classmethod
    def _processor_class(cls) -> type[Any]:
        from transformers import Idefics3ImageProcessorPil

        return Idefics3ImageProcessorPil

    def pictures(self, images: Sequence[Image.Image], whole: bool = False) -> RowPictures:
        """pixel_values [T, 3, S, S] of n pictures; `whole`: one tile each."""
        tiles, places, markup = [], [], []
        splits = {"do_image_splitting": False} if whole else {}
        for image in map(self.square, images):
            out = self.processor(images=[image], return_tensors="pt", return_row_col_info=True, **splits)
            tiles.append(out["pixel_values"][0].float())
            markup.append(self.markup(out["rows"][0][0], out["cols"][0][0]))
            places.extend([self.tokens] * len(tiles[-1]))
        return RowPictures({"pixel_values": torch.cat(tiles)}, places, markup)

    def videos(self, videos: Sequence[Film]) -> RowPictures:
        """Frames as pictures of one tile."""
        return self.frames([self.pictures(film.frames, whole=True) for film in videos])

    def markup(self, rows: int, columns: int) -> str:
        """What stands for a picture of so many rows and columns of tiles (0 and 0: one tile), as pretrained."""
        token = self.PLACEHOLDER
        lines = [
            "".join(f"{EDGE}<row_{row}_col_{column}>{token}" for column in range(1, columns + 1)) + "\n"
            for row in range(1, rows + 1)
        ]
        return "".join([*lines, "\n" if rows else "", f"{EDGE}{WHOLE}{token}{EDGE}"])

    @property
    def tokens(self) -> int:
        """Of one tile."""
        vision = self.config["vision_config"]
        return (vision["image_size"] // vision["patch_size"]) ** 2 // self.config["scale_factor"] ** 2

    def empty(self, name: str) -> Tensor:
        """[0, 3, S, S] tiles."""
        side = self.processor.max_image_size["longest_edge"]
        return torch.empty(0, 3, side, side)

    def arguments(self, ragged: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
        """pixel_values [1, T, 3, S, S]: the tiles of all rows as those of one."""
        return {name: value.unsqueeze(0) for name, value in super().arguments(ragged).items()}


class SmolVLM(Idefics3):
    """SmolVLM and SmolVLM2 (Marafioti et al. 2025): Idefics3 made small."""

    @classmethod
    def build(cls, config: Mapping[str, Any], dtype: torch.dtype, attention: str) -> nn.Module:
        """With our own merging of words and features of pictures where transformers has one.

        Before 5.23 it refused autocast's features among float32 words (5.17), or took a patch's side for how many
        features a tile has (5.20), which fails at sizes other than the published.
        """
        model: Any = super().build(config, dtype, attention)
        if hasattr(model, "inputs_merger"):
            model.inputs_merger = partial(_merged, model.config.image_token_id)
        return model

    @classmethod
    def _processor_class(cls) -> type[Any]:
        from transformers import SmolVLMImageProcessorPil

        return SmolVLMImageProcessorPil


def _merged(place: int, input_ids: Tensor, inputs_embeds: Tensor, image_hidden_states: Tensor) -> Tensor:
    """[B, L, D] words, with the features in the places of pictures, in order."""
    mask = (input_ids == place).unsqueeze(-1)
    return inputs_embeds.masked_scatter(mask, image_hidden_states.to(inputs_embeds.dtype))
