"""Texts and pictures to the first hidden states."""

# B rows, T text places, P patches, D width

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmret.errors import ConfigError
from mmret.models.vlmo.config import VLMoConfig


class TextEmbeddings(nn.Module):
    """BERT's embeddings; with relative positions nothing about the place is added.

    Our own and not transformers' module: that one always adds absolute positions.
    """

    def __init__(self, config: VLMoConfig, vocabulary: int) -> None:
        super().__init__()
        width = config.shape["width"]
        self.word = nn.Embedding(vocabulary, width)
        self.token_type = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = nn.Dropout(config.drop_path if config.text_dropout is None else config.text_dropout)
        self.absolute = config.shape["positions"] == "absolute"
        table = torch.zeros(config.max_text_tokens, width)
        if self.absolute:
            self.position = nn.Parameter(table)
        else:  # published base and large files carry it though nothing reads it: kept, so they can be written again
            self.register_buffer("position", table)

    def forward(self, ids: Tensor) -> Tensor:
        """[B, T] token ids -> [B, T, D]."""
        if ids.shape[1] > len(self.position):
            raise ConfigError(
                f"a text of {ids.shape[1]} tokens, but the model has {len(self.position)} text positions; raise "
                "model.max_text_tokens or cut the texts (the model's processor does)"
            )
        hidden = self.word(ids) + self.token_type.weight[0]
        if self.absolute:
            hidden = hidden + self.position[: ids.shape[1]]
        return self.dropout(self.norm(hidden))


class ImageEmbeddings(nn.Module):
    """Patches through one convolution, [CLS] in front; absolute positions where there is no relative table."""

    def __init__(self, config: VLMoConfig) -> None:
        super().__init__()
        width = config.shape["width"]
        self.px = config.image_px
        self.patch = nn.Conv2d(3, width, config.patch_px, stride=config.patch_px)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        absolute = config.shape["positions"] == "absolute"
        self.position = nn.Parameter(torch.zeros(1, 1 + config.window**2, width)) if absolute else None

    def forward(self, pixels: Tensor, mask: Tensor | None = None, token: Tensor | None = None) -> Tensor:
        """[B, 3, px, px] -> [B, 1 + P, D]; where mask [B, P] is True, token [D] stands for what is seen there."""
        if pixels.shape[-2:] != (self.px, self.px):
            raise ConfigError(
                f"pictures of {pixels.shape[-1]} x {pixels.shape[-2]} px, but the model was built for {self.px}; "
                "set model.image_px (weights of another size are resampled)"
            )
        patches = self.patch(pixels).flatten(2).transpose(1, 2)
        if mask is not None and token is not None:  # before positions: a hidden patch still has its place
            patches = torch.where(mask.unsqueeze(2), token.to(patches.dtype), patches)
        hidden = torch.cat([self.cls.to(patches.dtype).expand(len(patches), -1, -1), patches], 1)
        return hidden if self.position is None else hidden + self.position
