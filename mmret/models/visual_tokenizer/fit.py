"""Centroids for a codebook: spherical k-means over a frozen tower's features of a sample of pictures."""

# N vectors, P patches, D width, K tokens

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmret.errors import ConfigError
from mmret.models.visual_tokenizer.codebook import Codebook, CodebookConfig
from mmret.ops import nearest_centroid, spherical_kmeans


@dataclass(frozen=True)
class CodebookUsage:
    """How the sample's patches spread over the tokens."""

    vectors: int
    """Patches of the sample."""
    perplexity: float
    """exp of the tokens' entropy: as many equally frequent tokens would be as hard to guess. Up to K."""
    dead: int
    """Tokens that no patch of the sample has."""
    similarity: float
    """Mean cosine of a patch and its centroid."""


def collect_features(
    config: CodebookConfig, tower: nn.Module, pictures: Iterable[Tensor], per_picture: int, seed: int
) -> Tensor:
    """Features of some patches of each picture: [N, D], unit length.

    Args:
        pictures: batches [B, 3, px, px] in [0, 1].
        per_picture: so many patches of each, drawn at random; at most all.
    """
    codebook = Codebook(config, tower, torch.zeros(1, 1)).frozen()
    assert isinstance(codebook, Codebook)
    device = next(tower.parameters()).device
    codebook.to(device)
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for pixels in pictures:
        features = codebook.features(pixels.to(device), config.window)
        chosen = torch.rand(features.shape[:2], generator=generator).argsort(1)[:, :per_picture].to(device)
        parts.append(features.gather(1, chosen.unsqueeze(2).expand(-1, -1, features.shape[2])).flatten(0, 1))
    if not parts:
        raise ConfigError("no pictures to make a codebook of: do rows of these sources have any?")
    return torch.cat(parts)


def fit_codebook(
    config: CodebookConfig, tower: nn.Module, features: Tensor, num_tokens: int, rounds: Iterable[object], seed: int
) -> tuple[Codebook, CodebookUsage]:
    """The codebook of these features, the same for the same seed, and how they use it.

    Args:
        features: [N, D], unit length.
        rounds: k-means takes one step for each item.

    Raises:
        ConfigError: fewer features than tokens.
    """
    if len(features) < num_tokens:
        raise ConfigError(
            f"{num_tokens} tokens from {len(features)} patches: each wants one of its own at least; take more pictures "
            "(--samples), or fewer tokens"
        )
    centroids = spherical_kmeans(features, num_tokens, rounds, seed)
    similarity, tokens = nearest_centroid(features, centroids)
    shares = torch.bincount(tokens, minlength=num_tokens).double() / len(tokens)
    used = shares[shares > 0]
    usage = CodebookUsage(
        vectors=len(tokens),
        perplexity=float((-(used * used.log()).sum()).exp()),
        dead=num_tokens - len(used),
        similarity=float(similarity.mean()),
    )
    return Codebook(config, tower, centroids), usage
