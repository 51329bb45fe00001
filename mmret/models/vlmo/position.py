"""Relative positions: one table for all layers, a layer's bias gathered when it is needed (as BEiT's)."""

# N places, T of text and 1 + P of picture; H heads; w patches along a side; R = (2w - 1)^2 + 3

from __future__ import annotations

import torch
from torch import Tensor, nn


class RelativePositions(nn.Module):
    """Biases on attention scores by the distance of two places.

    Table rows, with span S the text length it was made for: (2w - 1)^2 picture offsets (query minus key); then
    [CLS] to patch, patch to [CLS], [CLS] to itself; text to picture; picture to text; 2 S - 3 text distances (key minus
    query, the opposite sign); then the text's three [CLS] rows. Columns are layer-major: layer l has [l H, (l + 1) H).
    """

    def __init__(self, window: int, text_span: int, heads: int, layers: int) -> None:
        super().__init__()
        self.window, self.text_span, self.heads = window, text_span, heads
        self.table = nn.Parameter(torch.zeros(table_rows(window, text_span), heads * layers))

    def index(self, num_text: int, with_image: bool) -> Tensor:
        """[N, N] table row of each (query, key); text first, then the picture.

        Made anew for each pass: it is small beside one layer's bias, and the text length is the batch's own.
        """
        device = self.table.device
        text = text_index(num_text, self.window, self.text_span, device) if num_text else None
        if not with_image:
            assert text is not None
            return text
        image = image_index(self.window, device)
        if text is None:
            return image
        rows = (2 * self.window - 1) ** 2 + 3
        to_image = torch.full((num_text, len(image)), rows, device=device)
        to_text = torch.full((len(image), num_text), rows + 1, device=device)
        return torch.cat([torch.cat([text, to_image], 1), torch.cat([to_text, image], 1)])

    def bias(self, layer: int, index: Tensor) -> Tensor:
        """[1, H, N, N] of one layer; of an index [B, N, N] with rows of their own [B, H, N, N]."""
        columns = self.table[:, layer * self.heads : (layer + 1) * self.heads]
        bias = columns.T.index_select(1, index.flatten()).view(self.heads, *index.shape)
        return bias.unsqueeze(0) if index.dim() == 2 else bias.transpose(0, 1)


def table_rows(window: int, text_span: int) -> int:
    """Rows of the table: 1126 for 14 patches a side and a span of 196."""
    return (2 * window - 1) ** 2 + 3 + 2 * text_span + 2


def window_of(rows: int, text_span: int) -> int | None:
    """Patches along a side of a table of so many rows; None: no picture size gives that."""
    offsets = rows - 5 - 2 * text_span
    side = round(max(offsets, 0) ** 0.5)
    return (side + 1) // 2 if side % 2 and side * side == offsets else None


def image_index(window: int, device: torch.device | None = None) -> Tensor:
    """[1 + P, 1 + P] rows for a picture alone, [CLS] first."""
    side = 2 * window - 1
    places = torch.arange(window, device=device)
    row, column = places.repeat_interleave(window), places.repeat(window)
    offset = (row[:, None] - row + window - 1) * side + column[:, None] - column + window - 1
    return _with_cls(offset, side**2)


def text_index(length: int, window: int, text_span: int, device: torch.device | None = None) -> Tensor:
    """[T, T] rows for a text alone, [CLS] first."""
    places = torch.arange(length - 1, device=device)
    first = (2 * window - 1) ** 2 + 5
    return _with_cls(places - places[:, None] + text_span - 2 + first, first + 2 * text_span - 3)


def _with_cls(inner: Tensor, special: int) -> Tensor:
    """[CLS] as first row (`special`) and column (+ 1); its corner is + 2."""
    index = inner.new_full((len(inner) + 1,) * 2, special)
    index[1:, 0] = special + 1
    index[0, 0] = special + 2
    index[1:, 1:] = inner
    return index
