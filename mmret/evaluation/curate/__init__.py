"""Filters of a curation that need a model: its scores, and what is near in its space."""

from mmret.data.curate import Filter
from mmret.evaluation.curate.clusters import Clusters
from mmret.evaluation.curate.duplicate_embeddings import DuplicateEmbeddings
from mmret.evaluation.curate.embedder import Embedder, open_embedder
from mmret.evaluation.curate.score import Score

FILTERS: dict[str, type[Filter]] = {entry.name: entry for entry in (Score, DuplicateEmbeddings, Clusters)}
"""Name in a curation -> filter; those without a model are `mmret.data.curate.FILTERS`."""

__all__ = ["FILTERS", "Embedder", "open_embedder"]
