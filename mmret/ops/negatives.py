"""Which of the batch's documents are no negatives at all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from mmret.ops.gather import gather_tensor, rank_and_world


def pad_ids(positive_ids: Sequence[Tensor], width: int | None = None) -> Tensor:
    """[B, width] ids of each query's documents, filled with -1, which is no id; width None: the longest list's."""
    rows = [*positive_ids]
    width = max(map(len, rows), default=0) if width is None else width
    padded = torch.full((len(rows), width), -1, dtype=torch.int64, device=rows[0].device if rows else None)
    for row, ids in enumerate(rows):
        padded[row, : len(ids)] = ids
    return padded


def gather_ids(positive_ids: Sequence[Tensor]) -> Tensor:
    """[W B, P] `pad_ids` of all ranks' queries, in rank order; P is the longest list of any rank."""
    if rank_and_world()[1] == 1:
        return pad_ids(positive_ids)
    width = torch.tensor(max(map(len, positive_ids), default=0), device=positive_ids[0].device)
    dist.all_reduce(width, dist.ReduceOp.MAX)
    return gather_tensor(pad_ids(positive_ids, int(width)))


def known_matches(padded_ids: Tensor, document_ids: Tensor) -> Tensor:
    """[B, N] bool: document of id [N] answers the query of `pad_ids` row [B, P]."""
    return (padded_ids.unsqueeze(2) == document_ids.view(1, 1, -1)).any(1)


def false_negatives(positive_ids: Sequence[Tensor], document_ids: Tensor, targets: Tensor) -> Tensor:
    """Columns that answer a row's query though they are not its target.

    Args:
        positive_ids: for each of B queries the int64 ids of all documents known to answer it.
        document_ids: [N] id of each column.
        targets: [B] column of each row's own positive.

    Returns:
        [B, N] bool.
    """
    known = known_matches(pad_ids(positive_ids), document_ids)
    known[torch.arange(len(targets), device=known.device), targets] = False
    return known
