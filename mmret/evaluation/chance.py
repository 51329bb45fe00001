"""What a ranking by lot would score: closed forms, drawn without replacement from N documents of which R count."""

# Q queries, N documents, R of them count for a query, k or depth places looked at

from __future__ import annotations

import torch
from torch import Tensor


def chance_hit(counting: Tensor, documents: int, k: int) -> Tensor:
    """[Q] probability that at least one of k places counts: 1 - C(N - R, k) / C(N, k) (hypergeometric)."""
    return 1 - _all_missed(counting, documents, k)[:, -1]


def chance_precision(counting: Tensor, documents: int, k: int) -> Tensor:
    """[Q] expected share of k places that count; places beyond N are empty."""
    return counting.double() / documents * min(k, documents) / k


def chance_reciprocal_rank(counting: Tensor, documents: int, depth: int) -> Tensor:
    """[Q] expected 1 / place of the first document that counts, 0 if it is beyond `depth`."""
    missed = _all_missed(counting, documents, depth)
    first_here = missed[:, :-1] - missed[:, 1:]
    places = torch.arange(1, first_here.shape[1] + 1, dtype=torch.float64, device=counting.device)
    return (first_here / places).sum(1)


def chance_ndcg(counting: Tensor, documents: int, k: int, grades: Tensor | None = None) -> Tensor:
    """[Q] expected nDCG: each place counts with probability R / N, or gains the mean grade of the N documents.

    Args:
        grades: [Q, G] of the documents that count, falling, then 0; None: each is worth 1.
    """
    discount = 1 / torch.arange(2, k + 2, dtype=torch.float64, device=counting.device).log2()
    if grades is None:
        total, best = counting.double(), discount.cumsum(0)[counting.clamp(max=k) - 1]
    else:
        total, best = grades.sum(1), best_gain(grades, k)
    return total / documents * discount[: min(k, documents)].sum() / best


def best_gain(grades: Tensor, k: int) -> Tensor:
    """[Q] discounted gain of grades [Q, G] in falling order, of the first k."""
    discount = 1 / torch.arange(2, k + 2, dtype=torch.float64, device=grades.device).log2()
    return (grades[:, :k] * discount[: grades.shape[1]]).sum(1)


def _all_missed(counting: Tensor, documents: int, depth: int) -> Tensor:
    """[Q, min(depth, N) + 1] probability that the first 0, 1, 2, ... places all miss."""
    place = torch.arange(min(depth, documents), dtype=torch.float64, device=counting.device)
    step = (documents - counting.double().unsqueeze(1) - place).clamp(min=0) / (documents - place)
    return torch.cat([torch.ones_like(step[:, :1]), step.cumprod(1)], dim=1)
