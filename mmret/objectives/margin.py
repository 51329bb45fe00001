"""Negatives that score too well to be negatives: hidden by their distance to the row's own positive."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def above_margin(scores: Tensor, targets: Tensor, margin: float | None, ratio: float | None) -> Tensor:
    """Columns whose score passes a threshold that the row's positive sets; the model itself is the judge.

    With the positive's score p, a threshold is p + margin (Qwen3 Embedding hides above p + 0.1, Zhang et al. 2025; a
    margin below 0 is NV-Retriever's TopK-MarginPos, Moreira et al. 2024, there used in mining), and another p times the
    ratio (its TopK-PercPos, 0.95); for p < 0, where a share of p would lie above it, p - (1 - ratio) |p|. Of both, the
    lower one counts.

    Args:
        scores: [B, N] before the temperature.
        targets: [B] column of each row's positive, which is never hidden.

    Returns:
        [B, N] bool.
    """
    positive = scores.gather(1, targets.unsqueeze(1))
    hidden = torch.zeros_like(scores, dtype=torch.bool)
    if margin is not None:
        hidden |= scores > positive + margin
    if ratio is not None:
        hidden |= scores > positive - (1 - ratio) * positive.abs()
    return hidden.scatter(1, targets.unsqueeze(1), False)
