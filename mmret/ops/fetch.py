"""Rows that lie on other ranks, and only those: who wants what is told first, then the rows travel."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from mmret.ops.gather import rank_and_world
from mmret.types import Inputs


def fetch_rows(inputs: Inputs, rows: Tensor) -> Inputs:
    """The rows of all ranks' inputs with the given numbers (rank order: row r of rank k is k * len(inputs) + r).

    Every rank must bring the same names and number of rows, and call it together; the second dimension may differ
    (texts padded to their own batch) and is filled with zeros to the longest. No gradient.

    Raises:
        ValueError: `inputs` has ragged entries.
    """
    if inputs.ragged:
        raise ValueError(f"rows with ragged entries cannot be fetched from other ranks: {sorted(inputs.ragged)}")
    _, world = rank_and_world()
    if world == 1:
        return inputs.select(rows)
    own = len(inputs)
    owner = rows // own
    order = torch.argsort(owner, stable=True)
    want = torch.bincount(owner, minlength=world)  # rows wanted from each rank
    asked = torch.empty_like(want)
    dist.all_to_all_single(asked, want)
    want_list, asked_list = want.tolist(), asked.tolist()
    wanted = rows.new_empty(sum(asked_list))
    dist.all_to_all_single(wanted, (rows % own)[order], asked_list, want_list)
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)

    dense = {}
    for name in sorted(inputs.dense):
        answer = _widened(inputs.dense[name])[wanted].contiguous()
        received = answer.new_empty((len(rows), *answer.shape[1:]))
        dist.all_to_all_single(received, answer, want_list, asked_list)
        dense[name] = received[back]
    return Inputs(dense)


def _widened(tensor: Tensor) -> Tensor:
    """Filled with zeros to the longest rank's second dimension."""
    if tensor.dim() != 2:
        return tensor
    width = torch.tensor([tensor.shape[1]], device=tensor.device)
    dist.all_reduce(width, dist.ReduceOp.MAX)
    return torch.nn.functional.pad(tensor, (0, int(width) - tensor.shape[1]))
