"""Which of the batch's documents are no negatives at all."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import pad

from mmret.ops.gather import gather_tensor, rank_and_world
from mmret.types import NO_POSITIVE


def gather_ids(positive_ids: Tensor) -> Tensor:
    """[W B, P] of all ranks' queries, in rank order, from [B, own P]; P is the longest list of any rank."""
    if rank_and_world()[1] == 1:
        return positive_ids
    width = torch.tensor(positive_ids.shape[1], device=positive_ids.device)
    dist.all_reduce(width, dist.ReduceOp.MAX)
    return gather_tensor(pad(positive_ids, (0, int(width) - positive_ids.shape[1]), value=NO_POSITIVE))


def known_matches(padded_ids: Tensor, document_ids: Tensor) -> Tensor:
    """[B, N] bool: document of id [N] answers the query of row [B, P]."""
    return (padded_ids.unsqueeze(2) == document_ids.view(1, 1, -1)).any(1)


def false_negatives(positive_ids: Tensor, document_ids: Tensor, targets: Tensor) -> Tensor:
    """Columns that answer a row's query though they are not its target.

    Args:
        positive_ids: [B, P] int64 ids of all documents known to answer each query.
        document_ids: [N] id of each column.
        targets: [B] column of each row's own positive.

    Returns:
        [B, N] bool.
    """
    known = known_matches(positive_ids, document_ids)
    known[torch.arange(len(targets), device=known.device), targets] = False
    return known
