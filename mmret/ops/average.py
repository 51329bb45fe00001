"""Means over ranks: of gradients, when every part of the backward pass is done, and of what ranks count unequally."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mmret.ops.gather import rank_and_world

BUCKET_BYTES = 512 * 2**20
"""Most that one collective carries: bounds the extra memory when all of a large model trains."""


def average_gradients(parameters: Iterable[nn.Parameter], bucket_bytes: int = BUCKET_BYTES) -> None:
    """Replace each trainable parameter's gradient by its mean over ranks; one all-reduce a bucket, in place.

    A parameter that has no gradient on this rank counts as zero here (a rank with texts only does not touch the vision
    tower); one that has none on any rank is left without, so that the optimizer passes it by as on a single rank.
    """
    world = rank_and_world()[1]
    if world == 1:
        return
    for bucket in _buckets([p for p in parameters if p.requires_grad], bucket_bytes):
        first = bucket[0]
        # One flag per parameter travels with the numbers: has any rank a gradient?
        flags = torch.tensor([float(p.grad is not None) for p in bucket], dtype=first.dtype)
        flags = flags.to(first.device, non_blocking=True)
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        flat = torch.cat([part.reshape(-1).to(first.dtype) for part in parts] + [flags])
        flat /= world  # before the sum: half precision would overflow after it
        dist.all_reduce(flat)
        present = (flat[-len(bucket) :] > 0).tolist()
        for parameter, mean, some in zip(bucket, _pieces(flat, bucket), present):
            if not some:
                parameter.grad = None
            elif parameter.grad is None:
                parameter.grad = mean.clone()
            else:
                parameter.grad.copy_(mean)


def mean_over_ranks(total: Tensor, count: Tensor) -> Tensor:
    """This rank's `total` over the mean count of a rank; 0 where no rank counts anything.

    Ranks that hold unequally many (masked places) have a loss whose mean over ranks, and whose gradient's mean (DDP),
    is that of all their terms together.

    Args:
        total: sum of this rank's terms, a scalar.
        count: how many they are, float scalar.
    """
    world = rank_and_world()[1]
    if world > 1:
        count = count.clone()
        dist.all_reduce(count)
        count = count / world
    return total / count.clamp_min(1 / world)


def _buckets(parameters: list[nn.Parameter], limit: int) -> Iterator[list[nn.Parameter]]:
    """Parameters of one type and device, in order, up to `limit` bytes together; every rank makes the same buckets."""
    kinds: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
    for parameter in parameters:
        kinds.setdefault((parameter.dtype, parameter.device), []).append(parameter)
    for same in kinds.values():
        bucket: list[nn.Parameter] = []
        size = 0
        for parameter in same:
            wide = parameter.numel() * parameter.element_size()
            if bucket and size + wide > limit:
                yield bucket
                bucket, size = [], 0
            bucket.append(parameter)
            size += wide
        yield bucket


def _pieces(flat: Tensor, bucket: list[nn.Parameter]) -> Iterator[Tensor]:
    start = 0
    for parameter in bucket:
        yield flat[start : start + parameter.numel()].view_as(parameter)
        start += parameter.numel()
