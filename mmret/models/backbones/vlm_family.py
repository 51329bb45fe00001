"""What is particular to each family of vision-language models: placeholder, pictures to tensors, forward arguments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from mmret.errors import ConfigError


@dataclass(frozen=True)
class RowPictures:
    """The pictures, or videos, of one row as the model takes them."""

    tensors: dict[str, Tensor]
    """Ragged inputs of the row, by name."""
    places: list[int]
    """How many tokens each takes."""


class Family(ABC):
    """One family. Pickles into data workers.

    Args:
        config: the transformers configuration.
        pictures: settings of the image processor.
        square_px: first make every picture a square of this side, as VLM2Vec 1 does; None: keep its shape.
        min_pixels, max_pixels: limits of a picture's area for families that keep its shape; None: as published.
    """

    SPECIAL: ClassVar[tuple[str, ...]] = ()
    """Special tokens of a tiny tokenizer."""
    PLACEHOLDER: ClassVar[str]
    """Stands for one picture in a prompt."""
    VIDEO_PLACEHOLDER: ClassVar[str | None] = None
    PADDING: ClassVar[str] = "left"
    """Where published checkpoints pad."""
    MROPE: ClassVar[bool] = False
    """Positions may have time, height and width."""

    def __init__(
        self,
        config: Mapping[str, Any],
        pictures: Mapping[str, Any],
        *,
        square_px: int | None = None,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
    ) -> None:
        self.config, self.square_px = config, square_px
        limits = {"min_pixels": min_pixels, "max_pixels": max_pixels}
        self.processor = self.image_processor(dict(pictures), {k: v for k, v in limits.items() if v is not None})

    @classmethod
    @abstractmethod
    def tiny_config(cls, vocabulary: int, ids: Mapping[str, int | None]) -> dict[str, Any]:
        """A configuration of toy size for a vocabulary with the ids of `SPECIAL`."""

    @classmethod
    @abstractmethod
    def tiny_pictures(cls) -> dict[str, Any]:
        """Image processor settings to go with it."""

    @abstractmethod
    def image_processor(self, settings: dict[str, Any], limits: dict[str, int]) -> Any:
        """The published preprocessing. Always Pillow's resampling: the tensor one's pixels differ."""

    @abstractmethod
    def pictures(self, images: Sequence[Image.Image]) -> RowPictures:
        """One row's pictures, in order."""

    def videos(self, videos: Sequence[Sequence[Image.Image]]) -> RowPictures:
        """One row's videos, each a list of frames.

        Raises:
            ConfigError: the family takes none.
        """
        raise ConfigError(f"a {self.config['model_type']} model takes no videos")

    @abstractmethod
    def empty(self, name: str) -> Tensor:
        """What a row without pictures brings for a ragged input."""

    def arguments(self, ragged: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
        """Ragged inputs of the rows -> arguments of the model's forward; none if no row has a picture."""
        joined = {name: torch.cat(list(rows)) for name, rows in ragged.items()}
        return {name: value for name, value in joined.items() if len(value)}

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
