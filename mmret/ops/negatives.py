"""Which of the batch's documents are no negatives at all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def false_negatives(positive_ids: Sequence[Tensor], document_ids: Tensor, targets: Tensor) -> Tensor:
    """Columns that answer a row's query though they are not its target.

    Args:
        positive_ids: for each of B queries the int64 ids of all documents known to answer it.
        document_ids: [N] id of each column.
        targets: [B] column of each row's own positive.

    Returns:
        [B, N] bool.
    """
    width = max((len(ids) for ids in positive_ids), default=0)
    padded = document_ids.new_full((len(positive_ids), width), -1)  # ids are never negative
    for row, ids in enumerate(positive_ids):
        padded[row, : len(ids)] = ids
    known = (padded.unsqueeze(2) == document_ids.view(1, 1, -1)).any(1)
    known[torch.arange(len(targets), device=known.device), targets] = False
    return known
