"""MaxSim on the CPU against the full similarity grid, and against the matrix product alone (its limit)."""

from __future__ import annotations

import torch
from torch import Tensor

from mmret.ops import maxsim
from tests.bench.harness import Row, race


def grid(queries: Tensor, documents: Tensor, mask: Tensor) -> Tensor:
    """What the released code does in essence: all similarities at once, maximum, sum."""
    similarity = torch.einsum("bld,ntd->bnlt", queries, documents)
    return similarity.masked_fill(~mask[None, :, None], -9999.0).amax(-1).sum(-1)


def run() -> list[Row]:
    """Search shapes (forward) and training shapes (forward and backward)."""
    torch.manual_seed(0)
    rows: list[Row] = []
    for L in (32, 113, 320):
        queries, documents, mask = _toy(1, L, 256, 512)
        flat, transposed = documents.reshape(-1, 128), queries[0].T.contiguous()
        assert torch.allclose(maxsim(queries, documents, mask), grid(queries, documents, mask), atol=1e-3)
        rows += race(
            f"maxsim search, 1 x {L} tokens against 256 x 512",
            {
                "mmret": lambda q=queries, d=documents, m=mask: maxsim(q, d, m),
                "similarity grid": lambda q=queries, d=documents, m=mask: grid(q, d, m),
                "matrix product alone (limit)": lambda f=flat, t=transposed: f @ t,
            },
            work=2 * L * 256 * 512 * 128 / 1e9,
            unit="GFLOP",
        )
    for L in (113, 320):
        queries, documents, mask = _toy(4, L, 20, 512, train=True)
        rows += race(
            f"maxsim training, 4 x {L} tokens against 20 x 512, forward and backward",
            {
                "mmret": lambda q=queries, d=documents, m=mask: _backward(maxsim, q, d, m),
                "similarity grid": lambda q=queries, d=documents, m=mask: _backward(grid, q, d, m),
            },
            work=4 * 20,
            unit="scores",
        )
    return rows


def _toy(B: int, L: int, N: int, T: int, train: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    queries = torch.nn.functional.normalize(torch.randn(B, L, 128), dim=-1).requires_grad_(train)
    documents = torch.nn.functional.normalize(torch.randn(N, T, 128), dim=-1).requires_grad_(train)
    return queries, documents, torch.rand(N, T) > 0.1


def _backward(score, queries: Tensor, documents: Tensor, mask: Tensor) -> None:
    queries.grad = documents.grad = None
    score(queries, documents, mask).logsumexp(1).mean().backward()
