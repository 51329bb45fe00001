"""One vector for each sample, measured once for all filters that compare samples in a model's space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from mmret.data.curate import View
from mmret.errors import ConfigError
from mmret.evaluation.curate.embedder import pooled
from mmret.evaluation.curate.encoding import ModelFilter

OF = ("query", "positives")
"""What `of` may say: the query, or the first positive."""


def check_vectors(of: str, batch_size: int) -> None:
    """Whether the settings that such filters share can be.

    Raises:
        ConfigError: they cannot.
    """
    if of not in OF:
        raise ConfigError(f"of: '{of}' is none; known: {', '.join(OF)}")
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {batch_size}")


class VectorFilter(ModelFilter):
    """Measures the query's vector, or the first positive's; late interaction's tokens are averaged."""

    kind = pa.list_(pa.float32())
    measured_by = ("of", "model")
    measure_name = "embedding"

    def measure_batch(self, views: Sequence[View]) -> list[Any]:
        """Unit vectors; an empty list where there is no positive."""
        query = self.config.of == "query"
        contents = [view.query if query else view.positives[0] for view in views if query or view.positives]
        if not contents:
            return [[] for _ in views]
        vectors = iter(pooled(self.embed(contents, "query" if query else "document")).numpy())
        return [next(vectors) if query or view.positives else [] for view in views]


def stack(values: pa.Array) -> tuple[Tensor, np.ndarray]:
    """Vectors [M, D] of those samples that have one, and which of the N those are [M]."""
    rows = np.flatnonzero(np.diff(values.offsets.to_numpy()))
    flat = torch.from_numpy(values.values.to_numpy(zero_copy_only=False).astype(np.float32))
    return flat.reshape(len(rows), -1), rows
