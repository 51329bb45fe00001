"""Pure tensor functions: no parameters, no configuration, nothing that knows a model or a loss."""

from mmret.ops.average import average_gradients
from mmret.ops.fetch import fetch_rows
from mmret.ops.gather import gather_embeddings, gather_tensor, local_gradient, rank_and_world
from mmret.ops.maxsim import MASKED_SIMILARITY, maxsim
from mmret.ops.negatives import false_negatives

__all__ = [
    "MASKED_SIMILARITY",
    "average_gradients",
    "false_negatives",
    "fetch_rows",
    "gather_embeddings",
    "gather_tensor",
    "local_gradient",
    "maxsim",
    "rank_and_world",
]
