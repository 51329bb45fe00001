"""Ranking lists: every query against documents of its own, each pair once, block by block."""

# Q queries, N documents, R longest list, P pairs

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from mmret.models.retriever import Retriever
from mmret.ops import rank_and_world
from mmret.types import Embeddings


@torch.no_grad()
def rank_lists(
    model: Retriever,
    queries: Embeddings,
    corpus: Iterable[Embeddings],
    rows: Tensor,
    lists: Sequence[Tensor],
    k: int,
    *,
    query_block: int = 256,
) -> tuple[Tensor, Tensor]:
    """The k best documents of each query's own list by `Retriever.score`.

    Args:
        queries: Q rows; on every rank the same when torch.distributed is initialised.
        corpus: blocks of documents. With several ranks: this rank's share.
        rows: [N] int64, the number of each document of these blocks.
        lists: for each query the numbers of its documents, rising, each once; every one is on some rank.
        k: documents kept per query.
        query_block: queries scored at once.

    Returns:
        scores [Q, min(k, R)] float32 in falling order and rows int64, both on the CPU and equal on every rank. Equal
        scores are ordered by row, smaller first. Behind the last document of a shorter list: -inf, row -1.

    Raises:
        ValueError: k < 1, or the model gave a score that is NaN.
    """
    if k < 1:
        raise ValueError(f"rank_lists wants k >= 1, got {k}")
    device = queries.vectors.device
    numbers = torch.nn.utils.rnn.pad_sequence([one.long() for one in lists], True, padding_value=-1)
    scores = torch.zeros(numbers.shape, device=device)
    # Of each pair of a query and a document of its list: where the document lies in this rank's blocks.
    asked, column = (numbers >= 0).nonzero(as_tuple=True)
    place = torch.full((int(max(numbers.max(), rows.max() if len(rows) else numbers.max())) + 1,), -1)
    place[rows] = torch.arange(len(rows))
    place = place[numbers[asked, column]]
    place, order = place.sort(stable=True)
    asked, column = asked[order], column[order]
    start = 0
    for documents in corpus:
        stop = start + len(documents)
        first, last = torch.searchsorted(place, torch.tensor([start, stop])).tolist()
        if first < last:
            documents = documents.to(device)
            who, which = asked[first:last].unique(return_inverse=True)
            for begin in range(0, len(who), query_block):
                part = queries.select(who[begin : begin + query_block].to(device))
                block = model.score(part, documents).float().cpu()
                mine = ((which >= begin) & (which < begin + query_block)).nonzero().flatten()
                values = block[which[mine] - begin, place[first + mine] - start]
                scores[asked[first + mine].to(device), column[first + mine].to(device)] = values.to(device)
        start = stop
    if rank_and_world()[1] > 1:
        dist.all_reduce(scores)  # each pair was scored by one rank and is 0 on the others
    if scores.isnan().any():
        raise ValueError(f"rank_lists: {type(model).__name__}.score gave NaN; are the embeddings finite?")
    scores = scores.cpu().masked_fill(numbers < 0, -torch.inf)
    best, order = scores.sort(dim=1, descending=True, stable=True)
    return best[:, :k], numbers.gather(1, order)[:, :k]
