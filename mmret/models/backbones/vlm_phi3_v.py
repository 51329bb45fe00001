"""Phi-3.5-V, the first VLM2Vec's backbone: crops of a picture and the whole of it, at places with negative ids."""

# V views of a row, n pictures

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from mmret.errors import ConfigError, SampleError
from mmret.models.backbones.phi3_v_crops import Crops
from mmret.models.backbones.tokenizer import TextTokenizer
from mmret.models.backbones.vlm_family import Family, RowPictures

CLIP_L_336 = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "attention_dropout": 0.0,
    "num_channels": 3,
}
"""The vision tower, which published configurations leave unsaid (ViT-L/14, 336 px, of Radford et al. 2021)."""
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
DECODER = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "resid_pdrop", "embd_pdrop", "attention_dropout", "hidden_act", "max_position_embeddings"),
    *("original_max_position_embeddings", "initializer_range", "rms_norm_eps", "bos_token_id", "eos_token_id"),
    *("pad_token_id", "sliding_window"),
)
"""Fields that are the decoder's in transformers too; it has its own defaults, Phi-3-mini's, as the published class."""
ONLY = {
    "embedding_cls": "image",
    "projection_cls": "mlp",
    "hd_transform_order": "sub_glb",
    "use_hd_transform": True,
    "with_learnable_separator": True,
}
"""`embd_layer` of every published checkpoint; the published code raises on most others."""
PLACEHOLDERS = re.compile(r"<\|image_(\d+)\|>")


class Phi3VFamily(Family):
    """Phi-3.5-V (Abdin et al. 2024)."""

    SPECIAL = ("<s>", "<|endoftext|>")
    PLACEHOLDER = "<|image_{}|>"
    PADDING = "right"
    LIMITS = ("max_tiles",)
    WIDTH_COUNTS = True
    CUTS_PICTURE_ROWS = False
    BEGIN = "<s>"

    @classmethod
    def tiny_config(cls, vocabulary: int, ids: Mapping[str, int | None]) -> dict[str, Any]:
        """About 60,000 parameters."""
        return {
            "vocab_size": vocabulary,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 1024,
            "original_max_position_embeddings": 256,
            "rope_scaling": {
                "type": "su",
                "short_factor": [1.0 + 0.1 * i for i in range(8)],
                "long_factor": [1.0 + 0.8 * i for i in range(8)],
            },
            "bos_token_id": ids["<s>"],
            "eos_token_id": ids["<|endoftext|>"],
            "pad_token_id": ids["<|endoftext|>"],
            "embd_layer": dict(ONLY),
            "img_processor": {
                "name": "clip_vision_model",
                "vision_config": {
                    "hidden_size": 32,
                    "intermediate_size": 48,
                    "num_hidden_layers": 3,
                    "num_attention_heads": 2,
                    "image_size": 28,
                },
            },
        }

    @classmethod
    def tiny_pictures(cls) -> dict[str, Any]:
        """Crops of 28 px, four patches each, which make one token."""
        return {"num_crops": 4}

    @classmethod
    def completed(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The published fields, with Phi-3's and CLIP's defaults filled in.

        Raises:
            ConfigError: it asks for a path that no published checkpoint takes.
        """
        from transformers import Phi3Config

        defaults = {key: getattr(Phi3Config(), key) for key in DECODER}
        full = {**defaults, "num_key_value_heads": None, "rope_theta": 10000.0, "rope_scaling": None, **config}
        full["num_key_value_heads"] = full["num_key_value_heads"] or full["num_attention_heads"]
        full["embd_layer"] = {**ONLY, **(config.get("embd_layer") or {})}
        for key, value in ONLY.items():
            if full["embd_layer"][key] != value:
                raise ConfigError(f"model.backbone: embd_layer.{key} is {full['embd_layer'][key]}; want {value}")
        images = {"layer_idx": -2, "type_feature": "patch", **(config.get("img_processor") or {})}
        images["vision_config"] = {**CLIP_L_336, **images.get("vision_config", {})}
        full["img_processor"] = images
        if images["type_feature"] != "patch":
            raise ConfigError(f"model.backbone: img_processor.type_feature is {images['type_feature']}; want patch")
        _check_rope(full)
        return full

    @classmethod
    def build(cls, config: Mapping[str, Any], dtype: torch.dtype, attention: str) -> nn.Module:
        """Our port; transformers has no class of this family."""
        from transformers import Phi3Config

        from mmret.models.backbones.phi3_v import Phi3V

        # No stretch of the positions: the model brings its own.
        decoder = Phi3Config(**{key: config[key] for key in DECODER}, use_cache=False)
        return Phi3V._from_config(decoder, published=config, dtype=dtype, attn_implementation=attention)

    def image_processor(self, settings: dict[str, Any], limits: dict[str, int]) -> Crops:
        """The published settings, with another number of crops where asked; a crop is as large as the tower wants."""
        side = self.config["img_processor"]["vision_config"]["image_size"]
        return Crops(
            side,
            limits.get("max_tiles") or settings.get("num_crops", 1),  # the published class's default
            tuple(settings.get("image_mean", CLIP_MEAN)),
            tuple(settings.get("image_std", CLIP_STD)),
        )

    def pictures(self, images: Sequence[Image.Image]) -> RowPictures:
        """pixel_values [V, 3, px, px] and image_sizes [n, 2] (height, width) in whole crops."""
        patch = self.config["img_processor"]["vision_config"]["patch_size"]
        views, sizes = zip(*(self.processor(self.square(image)) for image in images))
        places = [self.processor.tokens(*size, patch) for size in sizes]
        return RowPictures({"pixel_values": torch.cat(views), "image_sizes": torch.tensor(sizes)}, places)

    def empty(self, name: str) -> Tensor:
        """[0, 3, px, px] views or [0, 2] sizes."""
        if name == "image_sizes":
            return torch.empty(0, 2, dtype=torch.long)
        return torch.empty(0, 3, self.processor.crop_px, self.processor.crop_px)

    def prompt_ids(self, tokenizer: TextTokenizer, prompt: str) -> list[int]:
        """Ids of a prompt with -k for picture k. Each piece of text between is tokenised alone, begin token and all.

        Raises:
            SampleError: placeholders are not numbered 1, 2, ... in order.
        """
        pieces = PLACEHOLDERS.split(prompt)
        numbers = [int(number) for number in pieces[1::2]]
        if numbers != list(range(1, len(numbers) + 1)):
            # The published model gives pictures their places by order whatever the numbers say.
            named = ", ".join(f"<|image_{number}|>" for number in numbers)
            raise SampleError(f"placeholders {named} in '{prompt[:60]}'; want <|image_1|>, <|image_2|>, ... in order")
        ids = list(tokenizer.backend.encode(pieces[0]).ids)
        for number, piece in zip(numbers, pieces[2::2]):
            ids += [-number, *tokenizer.backend.encode(piece).ids]
        return ids


def _check_rope(config: Mapping[str, Any]) -> None:
    """Refuse stretched positions that are not as published."""
    scaling = config["rope_scaling"]
    if scaling is None:
        return
    kind = scaling.get("type", scaling.get("rope_type"))
    if kind not in ("su", "longrope"):
        raise ConfigError(f"model.backbone: rope_scaling of type {kind}; want su (longrope)")
    half = config["hidden_size"] // config["num_attention_heads"] // 2
    for name in ("short_factor", "long_factor"):
        if len(scaling.get(name, ())) != half:
            raise ConfigError(
                f"model.backbone: rope_scaling.{name} has {len(scaling.get(name, ()))} entries; want {half}"
            )
