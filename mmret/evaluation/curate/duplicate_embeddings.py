"""Samples that a model takes for the same: cosine above a threshold (SemDeDup's rule, Abbas et al. 2023), exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from omegaconf import MISSING
from torch import Tensor

from mmret.data.curate import Verdict
from mmret.data.curate.filter import no_reasons
from mmret.errors import ConfigError
from mmret.evaluation.curate.vectors import VectorFilter, check_vectors, stack

BLOCK = 1024
"""Samples compared with all earlier ones at once."""


@dataclass
class DuplicateEmbeddingsConfig:
    """Cosine of two samples' vectors."""

    model: str = MISSING
    """As in `score`."""
    min_similarity: float = MISSING
    """So near or nearer is the same; its scale is the model's."""
    of: str = "query"
    """Whose vector: query, or positives (the first one's)."""
    batch_size: int = 64

    def __post_init__(self) -> None:
        check_vectors(self.of, self.batch_size)
        if not -1 < self.min_similarity <= 1:
            raise ConfigError(f"min_similarity is a cosine, at most 1; got {self.min_similarity}")


class DuplicateEmbeddings(VectorFilter):
    """A sample goes if an earlier one that stays is near it; without a vector it stays."""

    name, Config = "duplicate_embeddings", DuplicateEmbeddingsConfig
    unit = "cosine to the nearest sample that stays, if it goes"

    def judge(self, values: pa.Array, indices: np.ndarray) -> Verdict:
        """In stored order; every pair is compared: N^2 D / 2 products, blocks of them at once."""
        reasons, similarity = no_reasons(len(values)), np.full(len(values), np.nan)
        like = np.full(len(values), -1, np.int64)
        vectors, rows = stack(values)
        vectors = vectors.to(self.setup.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        # A hair below: equal vectors have a cosine of 1 only up to rounding.
        limit = self.config.min_similarity - 1e-6
        kept = torch.zeros(0, dtype=torch.int64, device=vectors.device)
        for first in range(0, len(vectors), BLOCK):
            block = vectors[first : first + BLOCK]
            best, nearest = _nearest(block, vectors, kept)
            inside = (block @ block.T).cpu().numpy()
            stays: list[int] = []
            for at in range(len(block)):
                score, other = best[at], nearest[at]
                if stays and inside[at, stays].max() > score:
                    score, other = inside[at, stays].max(), first + stays[int(inside[at, stays].argmax())]
                if score >= limit:
                    row = rows[first + at]
                    reasons[row], similarity[row], like[row] = "near an earlier sample", score, rows[other]
                else:
                    stays.append(at)
            kept = torch.cat([kept, torch.tensor(stays, dtype=torch.int64, device=vectors.device) + first])
        return Verdict(reasons, similarity, like)


def _nearest(block: Tensor, vectors: Tensor, kept: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Largest cosine [B] with a kept vector, and that vector's number [B]; -2 where none is kept."""
    best = torch.full((len(block),), -2.0, device=block.device)
    nearest = torch.zeros(len(block), dtype=torch.int64, device=block.device)
    for numbers in kept.split(65_536):
        value, at = (block @ vectors[numbers].T).max(1) if len(numbers) else (best, nearest)
        nearest = torch.where(value > best, numbers[at] if len(numbers) else nearest, nearest)
        best = torch.maximum(best, value)
    return best.cpu().numpy(), nearest.cpu().numpy()
