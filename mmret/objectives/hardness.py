"""Hard negatives count more: each negative's share of the softmax is multiplied by exp(beta * score)."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def hardness_bias(scores: Tensor, negatives: Tensor, beta: float, mean_one: bool) -> Tensor:
    """What to add to the logits so that a negative of score s weighs w = exp(beta s) in its row's denominator.

    No gradient passes through the weights, as in LLaVE (Lan et al. 2025, Sec. 4.1), whose loss is
    -log(e^(p/t) / (e^(p/t) + sum_j w_j e^(s_j/t))). With `mean_one` the weights of a row are divided by their mean,
    which makes the sum an expectation under the distribution of hard negatives (Robinson et al. 2021, Eq. 4, without
    its correction for false negatives).

    Args:
        scores: [B, N] before the temperature.
        negatives: [B, N] bool, columns that count as the row's negatives; the others get 0.

    Returns:
        [B, N].
    """
    bias = beta * scores
    if mean_one:
        among = bias.masked_fill(~negatives, -torch.inf)
        bias = bias - (among.logsumexp(1, keepdim=True) - negatives.sum(1, keepdim=True).log())
    return bias.masked_fill(~negatives, 0)
