"""What is particular to each family of vision-language models: placeholder, pictures to tensors, forward arguments."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn

from mmret.errors import ConfigError
from mmret.models.backbones.tokenizer import TextTokenizer

FRAMES_PER_SECOND = 2.0
"""Of a video that does not say when its frames are shown."""


@dataclass(frozen=True)
class RowPictures:
    """The pictures, or videos, of one row as the model takes them."""

    tensors: dict[str, Tensor]
    """Ragged inputs of the row, by name."""
    places: list[int]
    """How often each of the tokens that stand for them is repeated."""
    markup: list[str] | None = None
    """The text that stands for each; holds the model's token once for every entry of `places`. None: the token."""


@dataclass(frozen=True)
class Film:
    """A decoded video."""

    frames: Sequence[Image.Image]
    seconds: Sequence[float] | None = None
    """When each frame is shown; None: two a second, the rate at which Qwen's models were trained."""

    @property
    def times(self) -> list[float]:
        """Seconds of each frame."""
        return [i / FRAMES_PER_SECOND for i in range(len(self.frames))] if self.seconds is None else [*self.seconds]


class Family(ABC):
    """One family. Pickles into data workers.

    Args:
        config: the transformers configuration.
        pictures: settings of the image processor.
        square_px: first make every picture a square of this side, as VLM2Vec 1 does; None: keep its shape.
        min_pixels, max_pixels: limits of a picture's area for families that keep its shape; None: as published.
        max_tiles: most tiles of a picture, the whole one not counted, for families that cut it up; None: as published.

    Raises:
        ConfigError: a limit that the family does not have.
    """

    SPECIAL: ClassVar[tuple[str, ...]] = ()
    """Special tokens of a tiny tokenizer."""
    PLACEHOLDER: ClassVar[str]
    """Stands for one picture in a prompt; with a {} for the picture's number in the row, counted from 1."""
    TOKEN: ClassVar[str | None] = None
    """Stands, repeated, for a picture's features; None: as the placeholder."""
    VIDEO_PLACEHOLDER: ClassVar[str] = "<|video|>"
    """Stands for one video in a prompt."""
    VIDEO_TOKEN: ClassVar[str | None] = None
    """Stands, repeated, for a video's features; None: a video is a row of pictures."""
    CAUSAL: ClassVar[bool] = True
    """Every token sees those before it only."""
    LIMITS: ClassVar[tuple[str, ...]] = ()
    """What can be limited: of min_pixels, max_pixels, max_tiles."""
    PADDING: ClassVar[str] = "left"
    """Where published checkpoints pad."""
    CONNECTOR: ClassVar[str] = (
        r"(^|\.)(multi_modal_projector|image_newline|merger|deepstack_merger_list|connector|img_projection|glb_GN|sub_GN)"
        r"(\.|$)"
    )
    """Regex of the parameters between vision tower and language model, as the published models name them."""
    MROPE: ClassVar[bool] = False
    """Positions may have time, height and width."""
    WIDTH_COUNTS: ClassVar[bool] = False
    """What the model makes of a row depends on the width to which its batch is padded (`padded_width` in forward)."""
    CUTS_PICTURE_ROWS: ClassVar[bool] = True
    """A limit of length is one for rows with pictures too."""
    BEGIN: ClassVar[str | None] = None
    """What a tiny tokenizer puts before every text."""

    def __init__(
        self,
        config: Mapping[str, Any],
        pictures: Mapping[str, Any],
        *,
        square_px: int | None = None,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        max_tiles: int | None = None,
    ) -> None:
        self.config, self.square_px = config, square_px
        given = {"min_pixels": min_pixels, "max_pixels": max_pixels, "max_tiles": max_tiles}
        limits = {name: value for name, value in given.items() if value is not None}
        for name in limits:
            if name not in self.LIMITS:
                has = " and ".join(f"model.{limit}" for limit in self.LIMITS) or "no limit of its own"
                raise ConfigError(f"model.{name}: a {config['model_type']} model has {has}")
        self.processor = self.image_processor(dict(pictures), limits)

    @classmethod
    @abstractmethod
    def tiny_config(cls, vocabulary: int, ids: Mapping[str, int | None]) -> dict[str, Any]:
        """A configuration of toy size for a vocabulary with the ids of `SPECIAL`."""

    @classmethod
    @abstractmethod
    def tiny_pictures(cls) -> dict[str, Any]:
        """Image processor settings to go with it."""

    @classmethod
    def completed(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration with every default filled in, under today's names, whatever wrote it."""
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING

        filled = CONFIG_MAPPING[config["model_type"]].from_dict(dict(config))
        return json.loads(filled.to_json_string(use_diff=False))

    @classmethod
    def build(cls, config: Mapping[str, Any], dtype: torch.dtype, attention: str) -> nn.Module:
        """The model without a language-model head, random weights, caches off."""
        from transformers import AutoModel
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING

        filled = CONFIG_MAPPING[config["model_type"]].from_dict(dict(config))
        model = AutoModel.from_config(filled, dtype=dtype, attn_implementation=attention)
        model.config.use_cache = False
        return model  # no cast of the whole: it would round the frequencies of rotary positions too

    @abstractmethod
    def image_processor(self, settings: dict[str, Any], limits: dict[str, int]) -> Any:
        """The published preprocessing. Always Pillow's resampling: the tensor one's pixels differ."""

    @abstractmethod
    def pictures(self, images: Sequence[Image.Image]) -> RowPictures:
        """One row's pictures, in order."""

    def videos(self, videos: Sequence[Film]) -> RowPictures:
        """One row's videos, in order: here every frame is a picture; families that know videos do better."""
        return self.frames([self.pictures(film.frames) for film in videos])

    def frames(self, films: Sequence[RowPictures]) -> RowPictures:
        """One row's videos from each one's frames as pictures, which one blank parts."""
        names = films[0].tensors
        tensors = {name: torch.cat([film.tensors[name] for film in films]) for name in names}
        places = [count for film in films for count in film.places]
        token = self.TOKEN or self.PLACEHOLDER
        return RowPictures(tensors, places, [" ".join(film.markup or [token] * len(film.places)) for film in films])

    def prompt(self, text: str) -> str:
        """A composed prompt as the backbone was pretrained to read it; most take it as it is."""
        return text

    def prompt_ids(self, tokenizer: TextTokenizer, prompt: str) -> list[int]:
        """Ids of a prompt, special tokens included; a picture's is its token's, or below 0 if the model has none."""
        return tokenizer.backend.encode(prompt).ids

    def seen(self, features: Tensor, count: int) -> RowPictures:
        """`pictures` of a row whose `count` pictures went through the vision tower earlier; for `VLM2Vec.towers`."""
        raise NotImplementedError(f"{type(self).__name__} keeps no features of its vision tower")

    @abstractmethod
    def empty(self, name: str) -> Tensor:
        """What a row without pictures brings for a ragged input."""

    def arguments(self, ragged: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
        """Ragged inputs of the rows -> arguments of the model's forward; none if no row has a picture."""
        joined = {name: torch.cat(list(rows)) for name, rows in ragged.items()}
        return {name: value for name, value in joined.items() if len(value)}

    def token_arguments(self, ids: Tensor) -> dict[str, Tensor]:
        """Arguments of the model's forward that token ids [B, L] decide."""
        return {}

    def positions(self, mask: Tensor) -> Tensor:
        """Positions that count real tokens 0, 1, 2, ... for attention mask [B, L]: [B, L], or with M-RoPE [3, B, L]."""
        places = (mask.long().cumsum(1) - 1).clamp(min=0)
        return places.expand(3, -1, -1) if self.MROPE else places

    def mrope(self, ids: Tensor, mask: Tensor, ragged: Mapping[str, Sequence[Tensor]]) -> Tensor:
        """Positions [3, B, L] in time, height and width, as the backbone was pretrained; padding gets 0.

        Raises:
            ConfigError: this family's positions have one axis.
        """
        raise ConfigError(f"model.positions: mrope, but a {self.config['model_type']} model has one axis of positions")

    def square(self, image: Image.Image) -> Image.Image:
        """The picture after `square_px`."""
        if self.square_px is None:
            return image
        return image.resize((self.square_px, self.square_px))
