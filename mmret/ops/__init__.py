"""Pure tensor functions: no parameters, no configuration, nothing that knows a model or a loss."""

from mmret.ops.gather import gather_embeddings, gather_tensor, rank_and_world
from mmret.ops.maxsim import MASKED_SIMILARITY, maxsim
from mmret.ops.negatives import false_negatives

__all__ = ["MASKED_SIMILARITY", "false_negatives", "gather_embeddings", "gather_tensor", "maxsim", "rank_and_world"]
