"""The one late-interaction function: chunked over documents, backward through the saved maxima only."""

# B queries, N documents, L query tokens, T document tokens, D dim

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

MASKED_SIMILARITY = -9999.0
"""Similarity of a masked document token, as in the released PreFLMR and ColBERT code (finite, so no NaN can arise)."""

CHUNK_ELEMENTS = {"cpu": 2**20, "cuda": 2**28}
"""Similarities held at once. 4 MB of float32 stay in a CPU's cache: measured 2x faster than 32 MB."""
GRADIENT_ELEMENTS = 2**26
"""On a GPU, numbers of document tokens gathered at once in the backward: one document at a time is many small kernels
(five for each), which take longer to start than to run. A CPU takes one: what it reads stays in the cache."""


def maxsim(queries: Tensor, documents: Tensor, mask: Tensor | None = None, *, chunk: int | None = None) -> Tensor:
    """Late-interaction score: for each query token its best document token, summed (ColBERT, Sec. 3.3, Eq. 3).

    Args:
        queries: [B, L, D]; masked query tokens are zero vectors and add 0.
        documents: [N, T, D].
        mask: [N, T] bool; False tokens count as similarity -9999. None: all count.
        chunk: documents scored at once; None: what `CHUNK_ELEMENTS` allows.

    Returns:
        scores [B, N], float32 whatever the input type. A document without unmasked token scores -9999 L.

    The similarities [B, L, N, T] never exist as a whole: memory is one chunk plus 2 or 4 bytes per (query token,
    document) for the place of each maximum, which is all that the backward needs.
    """
    if queries.dim() != 3 or documents.dim() != 3 or queries.shape[2] != documents.shape[2]:
        raise ValueError(f"maxsim wants [B, L, D] and [N, T, D], got {tuple(queries.shape)}, {tuple(documents.shape)}")
    if mask is not None and mask.shape != documents.shape[:2]:
        raise ValueError(f"maxsim: mask {tuple(mask.shape)} does not fit documents {tuple(documents.shape)}")
    if chunk is None:
        per_document = queries.shape[0] * queries.shape[1] * documents.shape[1]
        chunk = max(1, CHUNK_ELEMENTS.get(queries.device.type, 2**28) // max(1, per_document))
    with torch.autocast(device_type=queries.device.type, enabled=False):
        return _MaxSim.apply(queries.float(), documents.float(), mask, chunk)


def _documents_together(queries: Tensor, documents: Tensor) -> int:
    """Documents that one pass of the backward takes."""
    if queries.device.type == "cpu":
        return 1
    return max(1, GRADIENT_ELEMENTS // max(1, queries.shape[0] * queries.shape[1] * queries.shape[2]))


class _MaxSim(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, documents: Tensor, mask: Tensor | None, chunk: int) -> Tensor:
        B, L, D = queries.shape
        N, T, _ = documents.shape
        train = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        index_type = torch.int16 if T <= 32767 else torch.int32
        scores = queries.new_empty(B, N)
        best = torch.empty(N, B * L, dtype=index_type, device=queries.device) if train else None
        # Documents are the tall operand of the product: the other way round runs at half the speed on CPUs.
        transposed_queries = queries.reshape(B * L, D).T.contiguous()
        for start in range(0, N, chunk):
            part = documents[start : start + chunk]
            similarity = (part.reshape(-1, D) @ transposed_queries).view(len(part), T, B * L)
            if mask is not None:
                hidden = ~mask[start : start + chunk]
                if hidden.is_cuda or hidden.any():  # a GPU would be waited for, and most of its batches are padded
                    similarity.masked_fill_(hidden.unsqueeze(2), MASKED_SIMILARITY)
            if best is None:
                maxima = similarity.amax(1)
            else:
                maxima, places = similarity.max(1)
                best[start : start + chunk] = places.to(index_type)
            scores[:, start : start + chunk] = maxima.view(len(part), B, L).sum(2).T
        ctx.save_for_backward(queries, documents, mask, best)
        ctx.chunk = chunk
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        queries, documents, mask, best = ctx.saved_tensors
        B, L, D = queries.shape
        N = len(documents)
        flat_queries = queries.reshape(B * L, D)
        grad_queries = torch.zeros_like(flat_queries) if ctx.needs_input_grad[0] else None
        grad_documents = documents.new_zeros(documents.shape) if ctx.needs_input_grad[1] else None
        if mask is not None:  # all maxima of a wholly masked document are the constant -9999: no gradient
            grad = grad * mask.any(1)
        together = _documents_together(queries, documents)
        for start in range(0, N if together > 1 else 0, together):
            part, weight = documents[start : start + together], grad[:, start : start + together]
            place = best[start : start + together].long()
            place += documents.shape[1] * torch.arange(len(part), device=part.device).unsqueeze(1)
            weight = weight.T.repeat_interleave(L, 1).unsqueeze(2)
            if grad_queries is not None:
                found = part.flatten(0, 1).index_select(0, place.flatten()).view(len(part), B * L, D)
                grad_queries += found.mul_(weight).sum(0)
            if grad_documents is not None:
                flat = grad_documents[start : start + together].view(-1, D)
                flat.index_add_(0, place.flatten(), (flat_queries * weight).flatten(0, 1))
        for n in range(N if together == 1 else 0):
            places = best[n].long()
            weight = grad[:, n].repeat_interleave(L).unsqueeze(1)
            if grad_queries is not None:
                grad_queries.addcmul_(documents[n].index_select(0, places), weight)
            if grad_documents is not None:
                grad_documents[n].index_add_(0, places, flat_queries * weight)
        return None if grad_queries is None else grad_queries.view(B, L, D), grad_documents, None, None
