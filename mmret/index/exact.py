"""Exact search: every query against every document through the model's own score, block by block."""

# Q queries, N documents, k kept per query

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from mmret.models.retriever import Retriever
from mmret.ops import rank_and_world
from mmret.types import Embeddings

_ROWS = 2**32
_NOTHING = torch.iinfo(torch.int64).min
"""Key of an empty place: below that of every score."""


@torch.no_grad()
def search(
    model: Retriever,
    queries: Embeddings,
    corpus: Embeddings | Iterable[Embeddings],
    k: int,
    *,
    rows: Tensor | None = None,
    block: int = 1024,
    query_block: int = 32,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor]:
    """The k best documents of each query by `Retriever.score`.

    Args:
        queries: Q rows; on every rank the same when torch.distributed is initialised.
        corpus: documents, or blocks of them in any sizes (they may be computed on the fly). With several ranks: this
            rank's share, and `rows` tells which.
        k: documents kept per query; capped at the number of documents.
        rows: [N] int64, the number under which each document is reported; None: its position in `corpus`.
        block: documents scored at once; memory grows with it, the ranking does not depend on it.
        query_block: queries scored at once.
        device: where scores are computed; None: where the queries lie.

    Returns:
        scores [Q, k] float32 in falling order and rows [Q, k] int64, both on the CPU and equal on every rank. Equal
        scores are ordered by row, smaller first, whatever the order of `corpus`.

    Raises:
        ValueError: k < 1, `rows` does not fit the corpus, or the model gave a score that is NaN.
    """
    if k < 1:
        raise ValueError(f"search wants k >= 1, got {k}")
    device = torch.device(device) if device is not None else queries.vectors.device
    best = torch.full((len(queries), 0), _NOTHING, dtype=torch.int64, device=device)
    broken = torch.zeros((), dtype=torch.bool, device=device)
    seen = 0
    for documents in _blocks(corpus, block):
        if rows is None:
            numbers = torch.arange(seen, seen + len(documents), device=device)
        else:
            numbers = rows[seen : seen + len(documents)].to(device)
            if len(numbers) < len(documents):
                raise ValueError(f"search: {len(rows)} rows for a corpus of at least {seen + len(documents)} documents")
        documents, found = documents.to(device), []
        for part in queries.split(query_block):
            scores = model.score(part.to(device), documents).float()
            broken |= scores.isnan().any()
            keys = _pack(scores, numbers)
            found.append(keys.topk(min(k, keys.shape[1]), sorted=False).values)
        best = _merge(torch.cat([best, torch.cat(found)], dim=1) if found else best, k)
        seen += len(documents)
    if rows is not None and len(rows) != seen:
        raise ValueError(f"search: {len(rows)} rows for a corpus of {seen} documents")
    if bool(broken):
        raise ValueError(f"search: {type(model).__name__}.score gave NaN; are the embeddings finite?")
    best, total = _merge_ranks(best, seen, k)
    return _unpack(_merge(best, min(k, total)).cpu())


def _blocks(corpus: Embeddings | Iterable[Embeddings], size: int) -> Iterator[Embeddings]:
    """Blocks of `size` documents (the last may be smaller), whatever the sizes that come in."""
    waiting: list[Embeddings] = []
    for part in [corpus] if isinstance(corpus, Embeddings) else corpus:
        while len(part):
            room = size - sum(map(len, waiting))
            waiting.append(part.select(slice(0, room)))
            part = part.select(slice(room, None))
            if sum(map(len, waiting)) == size:
                yield Embeddings.cat(waiting)
                waiting = []
    if waiting:
        yield Embeddings.cat(waiting)


def _pack(scores: Tensor, rows: Tensor) -> Tensor:
    """Score and row as one integer that sorts by score, then by smaller row: a top-k without ties has only one answer.

    A float32's bits, read as an integer, sort like the float once those of negative numbers are turned around.
    """
    bits = (scores + 0.0).contiguous().view(torch.int32)  # + 0.0: no negative zero
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return ordered.long() * _ROWS + (_ROWS - 1 - rows)


def _unpack(keys: Tensor) -> tuple[Tensor, Tensor]:
    ordered = (keys >> 32).int()
    bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
    return bits.view(torch.float32), _ROWS - 1 - (keys & (_ROWS - 1))


def _merge(keys: Tensor, k: int) -> Tensor:
    return keys.topk(min(k, keys.shape[1])).values


def _merge_ranks(best: Tensor, seen: int, k: int) -> tuple[Tensor, int]:
    """All ranks' candidates side by side, and the number of documents on all of them."""
    _, world = rank_and_world()
    if world == 1:
        return best, seen
    total = torch.tensor(seen, device=best.device)
    dist.all_reduce(total)
    padded = torch.nn.functional.pad(best, (0, k - best.shape[1]), value=_NOTHING)
    parts = [torch.empty_like(padded) for _ in range(world)]
    dist.all_gather(parts, padded.contiguous())
    return torch.cat(parts, dim=1), int(total)
