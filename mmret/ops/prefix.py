"""The first numbers of embeddings, as embeddings of their own."""

from __future__ import annotations

from torch.nn.functional import normalize

from mmret.types import Embeddings


def prefix(embeddings: Embeddings, dim: int) -> Embeddings:
    """[N, dim] or [N, T, dim]: the leading `dim` of each vector, unit length again; zeros, of masked tokens, stay zero.

    Heads that are narrower stay as they are.
    """
    return Embeddings(
        normalize(embeddings.vectors[..., :dim], dim=-1),
        embeddings.mask,
        {name: prefix(head, dim) for name, head in embeddings.aux.items()},
    )
