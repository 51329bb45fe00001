"""The Multiway block: attention over everything, a feed-forward network per kind of input (VLMo, Sec. 3.1)."""

# B rows, N places, H heads, D width

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from mmret.models.vlmo.config import VLMoConfig
from mmret.ops import regathered

Route = Sequence[tuple[str, int]]
"""Which expert takes how many places, in order: [("text", 12), ("image", 197)]."""
Bias = Callable[[torch.dtype], Tensor | None]
"""Gathers a layer's bias, of that type: it exists only while the layer attends."""


class Projections(nn.Module):
    """Attention's norm, query-key-value matrix and output matrix. Keys have no bias: softmax would cancel it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.out = nn.Linear(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """[B, N, D] -> queries, keys and values [B, N, 3 D]."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        return linear(self.norm(hidden), self.qkv.weight, bias)


class Expert(nn.Module):
    """A feed-forward network with its own norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        return self.fc2(nn.functional.gelu(self.fc1(self.norm(hidden))))


class Block(nn.Module):
    """x + gamma_1 Attention(x), then + gamma_2 Expert(x); norms inside the branches."""

    def __init__(self, config: VLMoConfig, experts: Sequence[str], drop: float) -> None:
        super().__init__()
        shape = config.shape
        width, self.heads, self.drop, self.eager = shape["width"], shape["heads"], drop, config.attention == "eager"
        names = experts if config.multiway else ["all"]
        self.experts = nn.ModuleDict({name: Expert(width) for name in names})
        kinds = ["all"] if config.shared_attention else names
        self.attention = nn.ModuleDict({name: Projections(width) for name in kinds})
        scale = torch.full((width,), float(shape["layer_scale"]))
        self.gamma_1 = nn.Parameter(scale.clone()) if shape["layer_scale"] else None
        self.gamma_2 = nn.Parameter(scale.clone()) if shape["layer_scale"] else None

    def forward(self, hidden: Tensor, route: Route, bias: Bias, regather: bool = False) -> Tensor:
        """[B, N, D] -> [B, N, D].

        Args:
            bias: gives what is added to the scores, broadcast to [B, H, N, N] (-inf hides a key).
            regather: call it again in the backward pass rather than keep what it gave until then.
        """
        hidden = hidden + self._branch(self._attend(hidden, route, bias, regather), self.gamma_1)
        return hidden + self._branch(_by_route(self.experts, hidden, route), self.gamma_2)

    def _attend(self, hidden: Tensor, route: Route, bias: Bias, regather: bool) -> Tensor:
        B, N, D = hidden.shape
        qkv = _by_route(self.attention, hidden, route)
        query, key, value = qkv.view(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        if self.eager:
            with torch.autocast(hidden.device.type, enabled=False):
                scores = (query.float() * query.shape[-1] ** -0.5) @ key.float().transpose(2, 3)
                mask = bias(torch.float32)
                weights = (scores if mask is None else scores + mask).softmax(-1).to(value.dtype)
            mixed = weights @ value
        else:
            make = cast(Callable[[], Tensor], partial(bias, query.dtype))  # with a table there always is one
            with regathered(make) if regather and torch.is_grad_enabled() else nullcontext(make()) as mask:
                mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        mixed = mixed.transpose(1, 2).reshape(B, N, D)
        return _by_route({name: one.out for name, one in self.attention.items()}, mixed, route)

    def _branch(self, branch: Tensor, gamma: Tensor | None) -> Tensor:
        branch = branch if gamma is None else gamma * branch
        if not self.training or self.drop == 0:
            return branch
        kept = torch.rand(len(branch), 1, 1, device=branch.device) >= self.drop
        return branch * kept / (1 - self.drop)  # stochastic depth (Huang et al. 2016), a draw per row


def _by_route(modules: Any, hidden: Tensor, route: Route) -> Tensor:
    """Each part of the sequence through its own module; a module called "all" takes everything.

    Args:
        modules: by name.
    """
    if "all" in modules:
        return modules["all"](hidden)
    if len(route) == 1:
        return modules[route[0][0]](hidden)
    parts = hidden.split([places for _, places in route], dim=1)
    return torch.cat([modules[name](part) for (name, _), part in zip(route, parts)], 1)
