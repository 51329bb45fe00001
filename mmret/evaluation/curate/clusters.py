"""A few of each kind: k-means over a model's vectors, at most so many samples of a cluster."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from omegaconf import MISSING

from mmret.data.curate import Verdict
from mmret.data.curate.filter import no_reasons
from mmret.data.dice import permutation
from mmret.errors import ConfigError
from mmret.evaluation.curate.vectors import VectorFilter, check_vectors, stack
from mmret.ops import nearest_centroid, spherical_kmeans


@dataclass
class ClustersConfig:
    """Spherical k-means."""

    model: str = MISSING
    """As in `score`."""
    clusters: int = MISSING
    per_cluster: int = MISSING
    """Samples of a cluster that stay, drawn by the curation's seed."""
    rounds: int = 20
    """Of k-means."""
    of: str = "query"
    """Whose vector: query, or positives (the first one's)."""
    batch_size: int = 64

    def __post_init__(self) -> None:
        check_vectors(self.of, self.batch_size)
        for name in ("clusters", "per_cluster", "rounds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")


class Clusters(VectorFilter):
    """A sample without a vector stays."""

    name, Config, unit = "clusters", ClustersConfig, "cosine to the cluster's centre"

    def judge(self, values: pa.Array, indices: np.ndarray) -> Verdict:
        """Of each cluster those that a random order by seed and sample puts first."""
        reasons, cosines = no_reasons(len(values)), np.full(len(values), np.nan)
        vectors, rows = stack(values)
        if not len(rows):
            return Verdict(reasons, cosines)
        number = min(self.config.clusters, len(rows))
        centroids = spherical_kmeans(vectors, number, range(self.config.rounds), self.setup.seed)
        similarity, cluster = (found.numpy() for found in nearest_centroid(vectors, centroids))
        cosines[rows] = similarity
        order = permutation(len(rows), self.setup.seed, "clusters")
        taken = np.zeros(number, np.int64)
        for at in order.tolist():
            taken[cluster[at]] += 1
            if taken[cluster[at]] > self.config.per_cluster:
                reasons[rows[at]] = "its cluster is full"
        sizes = np.bincount(cluster, minlength=number)
        facts = {
            "clusters": int((sizes > 0).sum()),
            "largest": int(sizes.max()),
            "fuller than per_cluster": int((sizes > self.config.per_cluster).sum()),
        }
        return Verdict(reasons, cosines, facts=facts)
