"""From vision to token space: a small transformer over patches that reads the query's text (PreFLMR, Sec. 3.2)."""

# B queries, P patches, L text places, H width

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

ACTIVATIONS = {"gelu": nn.GELU, "gelu_new": lambda: nn.GELU("tanh"), "relu": nn.ReLU}
"""BERT's names of its feed-forward activations."""


class Attention(nn.Module):
    """Multi-head attention of `inputs` over `memory`; never causal."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, inputs: Tensor, memory: Tensor, visible: Tensor | None = None) -> Tensor:
        """[B, P, H] over [B, L, H]; visible [B, L] bool, False places are not read."""

        def split(states: Tensor) -> Tensor:
            return states.unflatten(2, (self.heads, -1)).transpose(1, 2)

        mask = None if visible is None else visible[:, None, None, :]
        mixed = scaled_dot_product_attention(
            split(self.query(inputs)),
            split(self.key(memory)),
            split(self.value(memory)),
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out(mixed.transpose(1, 2).flatten(2))


class MappingLayer(nn.Module):
    """Self-attention over patches, cross-attention into the text, feed-forward; norms come after the sums (BERT)."""

    def __init__(
        self,
        width: int,
        heads: int,
        ffn: int,
        dropout: float,
        attention_dropout: float,
        activation: str,
        norm_eps: float,
    ) -> None:
        super().__init__()
        self.self_attention = Attention(width, heads, attention_dropout)
        self.self_norm = nn.LayerNorm(width, norm_eps)
        self.cross_attention = Attention(width, heads, attention_dropout)
        self.cross_norm = nn.LayerNorm(width, norm_eps)
        self.ffn_in = nn.Linear(width, ffn)
        self.activation = ACTIVATIONS[activation]()
        self.ffn_out = nn.Linear(ffn, width)
        self.ffn_norm = nn.LayerNorm(width, norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, patches: Tensor, text: Tensor, visible: Tensor | None) -> Tensor:
        """[B, P, H] -> [B, P, H]."""
        # The released layer is built as a decoder's, yet runs without a causal mask: every patch sees every patch.
        patches = self.self_norm(patches + self.dropout(self.self_attention(patches, patches)))
        patches = self.cross_norm(patches + self.dropout(self.cross_attention(patches, text, visible)))
        return self.ffn_norm(patches + self.dropout(self.ffn_out(self.activation(self.ffn_in(patches)))))


class MappingNetwork(nn.Module):
    """A stack of `MappingLayer`; no positions of its own, the patches carry the vision tower's."""

    def __init__(
        self,
        layers: int,
        width: int,
        heads: int,
        ffn: int,
        dropout: float,
        attention_dropout: float,
        activation: str,
        norm_eps: float,
    ) -> None:
        super().__init__()
        sizes = (width, heads, ffn, dropout, attention_dropout, activation, norm_eps)
        self.layers = nn.ModuleList([MappingLayer(*sizes) for _ in range(layers)])

    def forward(self, patches: Tensor, text: Tensor, visible: Tensor | None = None) -> Tensor:
        """Patches that have read the text.

        Args:
            patches: [B, P, H].
            text: [B, L, H] hidden states of the query's text encoder.
            visible: [B, L] bool, text places that may be read; None: all. A row with none may read all.
        """
        if visible is not None:
            visible = visible | ~visible.any(1, keepdim=True)
        for layer in self.layers:
            patches = layer(patches, text, visible)
        return patches


def initialise(module: nn.Module) -> None:
    """BERT's initialisation: weights normal with deviation 0.02, biases zero; norms stay as they are."""
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=0.02)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
