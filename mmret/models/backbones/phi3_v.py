"""Phi-3.5-V (Abdin et al. 2024), which transformers has no class of: its Phi-3 decoder and CLIP blocks, joined."""

# B rows, L places, V views of all pictures (each picture's global one, then its crops), N pictures, T picture tokens,
# g patches per side of a view, m = g/2 cells per side, C channels of the vision tower, D width of the decoder

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import LongTensor, Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel, Phi3Config, Phi3Model

from mmret.errors import SampleError


class LongRope(nn.Module):
    """Rotary tables with one stretch factor per frequency (LongRoPE, Ding et al. 2024), one set for short batches and
    one for long ones.

    Not the library's: which set a batch takes is decided by its padded width, which a chunk of it no longer shows; and
    the frequencies are plain numbers here, which no cast of the module to bfloat16 can round.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        pairs = config["hidden_size"] // config["num_attention_heads"] // 2
        scaling = config["rope_scaling"] or {"short_factor": [1.0] * pairs, "long_factor": [1.0] * pairs}
        self.pairs, self.theta = pairs, float(config["rope_theta"])
        self.short, self.long = scaling["short_factor"], scaling["long_factor"]
        self.original: int = config["original_max_position_embeddings"]
        stretch = config["max_position_embeddings"] / self.original
        grows = config["rope_scaling"] is not None and stretch > 1
        self.scale = math.sqrt(1 + math.log(stretch) / math.log(self.original)) if grows else 1.0
        """Of both tables, for short batches too."""
        self.width: int | None = None
        """Padded width of the whole batch; None: of the positions given."""

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Positions [B, L] -> cosines and sines [B, L, head size], of x's type."""
        width = position_ids.shape[-1] if self.width is None else self.width
        factor = torch.tensor(self.long if width > self.original else self.short, dtype=torch.float32)
        factor = factor.to(x.device, non_blocking=True)
        exponent = torch.arange(0, 2 * self.pairs, 2, dtype=torch.float32, device=x.device) / (2 * self.pairs)
        angles = position_ids[..., None].float() * (1.0 / (factor * self.theta**exponent))
        angles = torch.cat((angles, angles), dim=-1)
        return (angles.cos() * self.scale).to(x.dtype), (angles.sin() * self.scale).to(x.dtype)


def arrange(views: Tensor, rows: int, columns: int, row_end: Tensor, between: Tensor) -> Tensor:
    """One picture's tokens before the projection: crops as one grid, line by line, then the global view.

    Args:
        views: [1 + rows * columns, g, g, C], the global view first, crops line by line.
        row_end: `sub_GN`, 4C numbers that end each line of a grid.
        between: `glb_GN`, 4C numbers between crops and global view.
    Returns:
        [(rows * columns + 1) m^2 + 1 + (rows + 1) m, 4C]; a cell is 2 x 2 patches, channels one after the other.
    """
    side, channels = views.shape[1] // 2, 4 * views.shape[-1]
    cells = views.view(len(views), side, 2, side, 2, -1).transpose(2, 3).reshape(len(views), side, side, channels)
    crops = cells[1:].view(rows, columns, side, side, channels).transpose(1, 2)
    grids = crops.reshape(rows * side, columns * side, channels), cells[0]
    end = row_end.view(1, 1, channels)
    lines = [torch.cat([grid, end.expand(len(grid), 1, channels)], 1).flatten(0, 1) for grid in grids]
    return torch.cat([lines[0], between.view(1, channels), lines[1]])


class PictureTokens(nn.Module):
    """Views of pictures -> their tokens in the decoder's width. Names of parts as published.

    Args:
        vision: the CLIP tower's configuration.
        width: D.
        layers: how many of the tower's layers are read; what lies above is kept for the published layout and never run.
    """

    def __init__(self, vision: CLIPVisionConfig, width: int, layers: int) -> None:
        super().__init__()
        tower: Any = CLIPVisionModel(vision)
        # Older versions of the library nest the tower one level deeper; published names have that level.
        self.img_processor = nn.ModuleDict({"vision_model": getattr(tower, "vision_model", tower)})
        self.layers, self.crop_px = layers, vision.image_size
        channels = 4 * vision.hidden_size
        self.glb_GN = nn.Parameter(torch.zeros(1, 1, channels))
        self.sub_GN = nn.Parameter(torch.zeros(1, 1, 1, channels))
        self.img_projection = nn.Sequential(nn.Linear(channels, width), nn.GELU(), nn.Linear(width, width))

    def patches(self, pixel_values: Tensor) -> Tensor:
        """[V, 3, px, px] -> [V, g, g, C]: states of the layer that is read, without the class token."""
        tower: Any = self.img_processor["vision_model"]
        hidden = tower.pre_layrnorm(tower.embeddings(pixel_values))
        for layer in tower.encoder.layers[: self.layers]:
            hidden = layer(hidden, None)
        side = math.isqrt(hidden.shape[1] - 1)
        return hidden[:, 1:].unflatten(1, (side, side))

    def forward(self, pixel_values: Tensor, image_sizes: Tensor) -> Tensor:
        """Views [V, 3, px, px] and padded sizes [N, 2] (height, width) in pixels -> [T, D], picture by picture."""
        grids = [(height // self.crop_px, width // self.crop_px) for height, width in image_sizes.tolist()]
        parts = self.patches(pixel_values).split([1 + rows * columns for rows, columns in grids])
        tokens = [arrange(part, *grid, self.sub_GN, self.glb_GN) for part, grid in zip(parts, grids)]
        return self.img_projection(torch.cat(tokens))


class Phi3V(Phi3Model):
    """The decoder without its head, and picture tokens at places with negative ids.

    Args:
        config: the decoder's, in the library's words.
        published: the published config.json, every default filled in (`vlm_phi3_v.py`).
    """

    def __init__(self, config: Phi3Config, published: Mapping[str, Any]) -> None:
        super().__init__(config)
        images = published["img_processor"]
        vision = CLIPVisionConfig(**images["vision_config"])
        vision._attn_implementation = config._attn_implementation
        layers = images["layer_idx"] + (vision.num_hidden_layers + 1 if images["layer_idx"] < 0 else 0)
        self.rotary_emb = LongRope(published)
        self.vision_embed_tokens = PictureTokens(vision, config.hidden_size, layers)
        self.embed_dropout = nn.Dropout(published["embd_pdrop"])

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        pixel_values: Tensor | None = None,
        image_sizes: Tensor | None = None,
        padded_width: int | None = None,
        use_cache: bool = False,
    ) -> Any:
        """The library's output; `last_hidden_state` [B, L, D] after the final norm.

        Args:
            input_ids: [B, L]; below 0: the next token of the pictures, in order of rows and places.
            attention_mask, position_ids: [B, L].
            pixel_values: views [V, 3, px, px] of all rows' pictures, without empty crops; None: no pictures.
            image_sizes: [N, 2] (height, width) of the padded pictures in pixels.
            padded_width: of the whole batch, if these are not all of its places.

        Raises:
            SampleError: not as many places as picture tokens.
        """
        self.rotary_emb.width = padded_width
        embeddings = self.embedded(input_ids, pixel_values, image_sizes)
        return super().forward(
            inputs_embeds=self.embed_dropout(embeddings),
            attention_mask=attention_mask,
            position_ids=cast(LongTensor, position_ids),
            use_cache=use_cache,
        )

    def embedded(self, input_ids: Tensor, pixel_values: Tensor | None, image_sizes: Tensor | None) -> Tensor:
        """[B, L, D] what the decoder reads; arguments and errors as of `forward`."""
        places = input_ids < 0
        embeddings = self.embed_tokens(input_ids.clamp(min=0))
        wanted = int(places.sum())
        if pixel_values is None or image_sizes is None:
            if wanted:
                raise SampleError(f"{wanted} places for picture tokens among the ids, but no picture")
            return embeddings
        features = self.vision_embed_tokens(pixel_values, image_sizes)
        if len(features) != wanted:
            raise SampleError(
                f"{wanted} places for picture tokens among the ids, but pictures of {len(features)} tokens"
            )
        return embeddings.masked_scatter(places.unsqueeze(-1), features.to(embeddings.dtype))
