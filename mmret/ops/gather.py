"""All ranks' rows with gradient: each rank keeps its own rows and scores them against everybody's columns."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mmret.types import Embeddings


def rank_and_world() -> tuple[int, int]:
    """This process's rank and the number of ranks; (0, 1) without a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def gather_tensor(tensor: Tensor) -> Tensor:
    """Rows of all ranks in rank order, [n, ...] -> [W n, ...]; gradient flows to the rank that owns a row.

    Every rank must bring the same shape. The backward sums what all ranks' losses say of a row. With a loss that is the
    mean over local rows, the mean of gradients over ranks is then exactly the gradient of the mean over the global
    batch: no world-size factor.
    """
    return tensor if rank_and_world()[1] == 1 else _Gather.apply(tensor)


def gather_embeddings(embeddings: Embeddings) -> Embeddings:
    """`gather_tensor` for embeddings; shorter token axes are padded with masked zeros to the longest rank's."""
    if rank_and_world()[1] == 1:
        return embeddings
    vectors, mask = embeddings.vectors, embeddings.mask
    if mask is not None:
        length = torch.tensor([vectors.shape[1]], device=vectors.device)
        dist.all_reduce(length, dist.ReduceOp.MAX)
        missing = int(length) - vectors.shape[1]
        vectors = torch.nn.functional.pad(vectors, (0, 0, 0, missing))
        mask = gather_tensor(torch.nn.functional.pad(mask, (0, missing), value=False).byte()).bool()
    aux = {name: gather_embeddings(head) for name, head in embeddings.aux.items()}
    return Embeddings(gather_tensor(vectors), mask, aux)


def local_gradient(gathered: Tensor, own: Tensor) -> Tensor:
    """Gathered rows [W n, ...] of which only this rank's own [n, ...] carry gradient, as many released codes gather."""
    start = rank_and_world()[0] * len(own)
    gathered = gathered.detach()
    return torch.cat([gathered[:start], own, gathered[start + len(own) :]])


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        rank, world = rank_and_world()
        ctx.rows = slice(rank * len(tensor), (rank + 1) * len(tensor))
        parts = [torch.empty_like(tensor) for _ in range(world)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        # all_reduce, not reduce_scatter: gloo has no reduce_scatter, and embeddings are small beside the gradients.
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad[ctx.rows]
