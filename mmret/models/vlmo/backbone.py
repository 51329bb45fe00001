"""The Multiway transformer and its ways through: text alone, picture alone, both together."""

# B rows, T text places, P patches, N places in all, D width

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmret.models.vlmo.block import Block, Route
from mmret.models.vlmo.config import VLMoConfig
from mmret.models.vlmo.embeddings import ImageEmbeddings, TextEmbeddings
from mmret.models.vlmo.position import RelativePositions

ALIGNED = 16
"""Columns of a bias come in such lots: CUDA's kernels would else make, and keep, an aligned copy of it."""


@dataclass(frozen=True)
class Sequence:
    """Embedded input, and what attention must know of it."""

    hidden: Tensor
    """[B, N, D]"""
    num_text: int
    num_image: int
    hide: Tensor | None
    """[B, 1, 1, N]: 0 for real places, -inf for padding; None without text."""
    index: Tensor | None
    """[N, N'] rows of the relative table, or [B, N, N'] where each row keeps other patches; N' a multiple of `ALIGNED`,
    the surplus any row. None: absolute positions."""
    kept: Tensor | None = None
    """[B, K] patches that are read; None: all."""

    @property
    def kind(self) -> str:
        """text, image, or both."""
        return "both" if self.num_text and self.num_image else "text" if self.num_text else "image"


class Backbone(nn.Module):
    """Embeddings, blocks, one final norm for everything."""

    def __init__(self, config: VLMoConfig, vocabulary: int) -> None:
        super().__init__()
        shape = config.shape
        width, depth = shape["width"], shape["depth"]
        self.depth, self.vl_start, self.checkpoint_blocks = depth, config.vl_start, config.checkpoint_blocks
        self.text, self.image = TextEmbeddings(config, vocabulary), ImageEmbeddings(config)
        self.modality = nn.Embedding(1 + config.image_types, width)
        relative = shape["positions"] == "relative"
        self.positions = (
            RelativePositions(config.window, config.relative_text_span, shape["heads"], depth) if relative else None
        )
        rates = torch.linspace(0, config.drop_path, depth, device="cpu").tolist()
        self.blocks = nn.ModuleList(
            Block(config, ["text", "image", *(["vl"] if layer >= self.vl_start else [])], rates[layer])
            for layer in range(depth)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def embed_text(self, ids: Tensor, mask: Tensor) -> Sequence:
        """Texts alone: ids [B, T], mask [B, T] with 1 for real tokens."""
        hidden = self.text(ids) + self.modality.weight[0]
        return Sequence(hidden, ids.shape[1], 0, _hide(mask), self._index(ids.shape[1], 0))

    def embed_image(
        self,
        pixels: Tensor,
        image_type: Tensor | None = None,
        mask: Tensor | None = None,
        token: Tensor | None = None,
        kept: Tensor | None = None,
    ) -> Sequence:
        """Pictures alone: [B, 3, px, px]; image_type [B] is 1 unless given; `token` [D] stands where `mask` [B, P].

        Of patches that are not in `kept` [B, K] there is no trace; the others know their places.
        """
        hidden = self.image(pixels, mask, token)
        if kept is not None:
            hidden = hidden.gather(1, _with_first(kept)[:, :, None].expand(-1, -1, hidden.shape[2]))
        hidden = hidden + (self.modality.weight[1] if image_type is None else self.modality(image_type)[:, None])
        return Sequence(hidden, 0, hidden.shape[1], None, self._index(0, hidden.shape[1], kept), kept)

    def join(self, text: Sequence, image: Sequence) -> Sequence:
        """Both in one sequence, text first."""
        assert text.hide is not None
        return Sequence(
            torch.cat([text.hidden, image.hidden], 1),
            text.num_text,
            image.num_image,
            nn.functional.pad(text.hide, (0, image.num_image)),
            self._index(text.num_text, image.num_image, image.kept),
            image.kept,
        )

    def run(
        self,
        sequence: Sequence,
        hidden: Tensor | None = None,
        start: int = 0,
        stop: int | None = None,
        vl: bool = False,
    ) -> Tensor:
        """[B, N, D] after blocks [start, stop); no final norm.

        Args:
            hidden: states to go on from; None: the embeddings.
            vl: from `vl_start` on use the VL experts. Both together always do.
        """
        states = sequence.hidden if hidden is None else hidden
        for layer in range(start, self.depth if stop is None else stop):
            route = self._route(sequence, layer, vl)
            bias = partial(self._bias, layer, sequence)
            if self.checkpoint_blocks and torch.is_grad_enabled():
                states = cast(Tensor, checkpoint(self.blocks[layer], states, route, bias, use_reentrant=False))
            else:
                states = self.blocks[layer](states, route, bias, regather=self.positions is not None)
        return states

    def _bias(self, layer: int, sequence: Sequence, dtype: torch.dtype) -> Tensor | None:
        """What one layer adds to its scores: [1 or B, H, N, N], or [B, 1, 1, N] without a table."""
        hide, index = sequence.hide, sequence.index
        if self.positions is None or index is None:
            return None if hide is None else hide.to(dtype)
        bias = self.positions.bias(layer, index)
        if hide is not None:
            bias = bias + nn.functional.pad(hide, (0, index.shape[-1] - hide.shape[-1]))
        return bias.to(dtype)[..., : index.shape[-2]]

    def _route(self, sequence: Sequence, layer: int, vl: bool) -> Route:
        if layer >= self.vl_start and (vl or sequence.kind == "both"):
            return [("vl", sequence.num_text + sequence.num_image)]
        return [
            (name, places) for name, places in (("text", sequence.num_text), ("image", sequence.num_image)) if places
        ]

    def _index(self, num_text: int, num_image: int, kept: Tensor | None = None) -> Tensor | None:
        if self.positions is None:
            return None
        index = self.positions.index(num_text, num_image > 0)
        if kept is not None:
            text = torch.arange(num_text, device=kept.device).expand(len(kept), -1)
            places = torch.cat([text, num_text + _with_first(kept)], 1)
            index = index[places[:, :, None], places[:, None, :]]
        return nn.functional.pad(index, (0, -index.shape[-1] % ALIGNED))


def _with_first(kept: Tensor) -> Tensor:
    """[B, K] patches -> [B, 1 + K] places of a picture, [CLS] first."""
    return nn.functional.pad(kept + 1, (1, 0))


def _hide(mask: Tensor) -> Tensor:
    """-inf where a key is padding. Padded queries still attend; nothing reads what they get."""
    return torch.zeros(mask.shape, device=mask.device).masked_fill(mask == 0, -torch.inf)[:, None, None]
