"""Pure tensor functions: no parameters, no configuration, nothing that knows a model or a loss."""

from mmret.ops.average import average_gradients, mean_over_ranks
from mmret.ops.fetch import fetch_rows
from mmret.ops.gather import gather_embeddings, gather_tensor, local_gradient, rank_and_world
from mmret.ops.kmeans import nearest_centroid, spherical_kmeans
from mmret.ops.maxsim import MASKED_SIMILARITY, maxsim
from mmret.ops.negatives import false_negatives, gather_ids, known_matches
from mmret.ops.prefix import prefix
from mmret.ops.regather import regathered

__all__ = [
    "MASKED_SIMILARITY",
    "average_gradients",
    "false_negatives",
    "fetch_rows",
    "gather_embeddings",
    "gather_ids",
    "gather_tensor",
    "known_matches",
    "local_gradient",
    "maxsim",
    "mean_over_ranks",
    "nearest_centroid",
    "prefix",
    "rank_and_world",
    "regathered",
    "spherical_kmeans",
]
