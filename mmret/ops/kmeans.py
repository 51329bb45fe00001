"""Spherical k-means: clusters of directions (Dhillon and Modha 2001). Deterministic on the CPU."""

# N vectors, K centroids, D width

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import normalize

CHUNK = 8192
"""Vectors compared with all centroids at once."""


def nearest_centroid(vectors: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Of each vector the largest inner product [N] with a centroid, and that centroid's number [N] (the first of
    equals).

    Args:
        vectors: [N, D]; centroids: [K, D]; unit length makes the product the cosine.
    """
    best = [(chunk @ centroids.T).max(1) for chunk in vectors.split(CHUNK)]
    return torch.cat([value for value, _ in best]), torch.cat([number for _, number in best])


def spherical_kmeans(vectors: Tensor, num_centroids: int, rounds: Iterable[object], seed: int) -> Tensor:
    """Centroids [K, D], unit length: mean directions of the vectors nearest to them.

    Starts from K different vectors. A centroid that no vector is nearest to starts again, at a vector drawn with a
    probability that grows with its distance to its own centroid.

    Args:
        vectors: [N, D], unit length, N >= K.
        rounds: one round of assignment and means for each item (an iterable, so that a caller can show progress).
    """
    generator = torch.Generator().manual_seed(seed)
    first = torch.randperm(len(vectors), generator=generator)[:num_centroids]
    centroids = vectors[first.to(vectors.device)]
    for _ in rounds:
        similarity, numbers = nearest_centroid(vectors, centroids)
        counts = torch.bincount(numbers, minlength=num_centroids)
        sums = torch.zeros_like(centroids).index_add_(0, numbers, vectors)
        centroids = torch.where((counts > 0).unsqueeze(1), normalize(sums, dim=-1), centroids)
        empty = (counts == 0).nonzero().squeeze(1)
        distance = (1 - similarity).clamp_min(0).cpu()
        able = min(len(empty), int((distance > 0).sum()))
        if able:
            chosen = _weighted(distance, able, generator).to(vectors.device)
            centroids[empty[:able]] = vectors[chosen]
    return centroids


def _weighted(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` different places, those of more weight likelier (Efraimidis and Spirakis 2006); weight 0: never."""
    keys = torch.rand(len(weights), generator=generator).clamp_min(1e-12).log() / weights
    return keys.masked_fill(weights == 0, -torch.inf).topk(count).indices
