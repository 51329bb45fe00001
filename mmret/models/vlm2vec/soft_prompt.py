"""Learnt tokens before every prompt (prompt tuning, Lester et al. 2021)."""

# B rows, L places, N learnt tokens, D width

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mmret.errors import ConfigError
from mmret.models.vlm2vec.adapter import kind_of, peft_config


class SoftPrompt(nn.Module):
    """N vectors that take the place of the embeddings of the first N tokens.

    Rows get N more tokens in front (`prepend`), left of the padding where that is on the left; the attention mask
    counts them, so positions and the last token's place, which are found by the mask, move with them.

    Args:
        embedding: the backbone's table of input embeddings.
        settings: the `peft:` section.

    Raises:
        ConfigError: a beginning that is not built.
    """

    STAND_IN = 0
    """Any token's id: its embedding is replaced."""

    def __init__(self, embedding: nn.Embedding, settings: Mapping[str, Any]) -> None:
        super().__init__()
        config = peft_config(settings)
        self.start = str(getattr(config.prompt_tuning_init, "value", config.prompt_tuning_init)).upper()
        if self.start not in ("RANDOM", "SAMPLE_VOCAB"):
            raise ConfigError(f"model.peft.prompt_tuning_init: {self.start}; want RANDOM or SAMPLE_VOCAB")
        if not config.num_virtual_tokens or config.num_virtual_tokens < 1:
            raise ConfigError(f"model.peft.num_virtual_tokens must be >= 1, got {config.num_virtual_tokens}")
        self.num_tokens = int(config.num_virtual_tokens)
        shape = (self.num_tokens, embedding.weight.shape[1])
        self.vectors = nn.Parameter(torch.empty(shape, dtype=torch.float32, device=embedding.weight.device))
        self._length: int | None = None
        embedding.register_forward_hook(self._replace)
        self.renew(embedding)

    @torch.no_grad()
    def renew(self, embedding: nn.Embedding) -> None:
        """Begin anew, by the table as it is now: at random words, or at random with the table's spread."""
        table = embedding.weight
        if table.device.type == "meta":
            return
        if self.start == "RANDOM":
            self.vectors.normal_(std=float(table.std()))
        else:
            self.vectors.copy_(table[torch.randint(len(table), (self.num_tokens,), device=table.device)])

    def prepend(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Ids and mask [B, L] -> [B, N + L]."""
        front = ids.new_full((len(ids), self.num_tokens), self.STAND_IN)
        return torch.cat([front, ids], 1), torch.cat([mask.new_ones(front.shape), mask], 1)

    @contextmanager
    def in_place(self, length: int) -> Iterator[None]:
        """Inside, embeddings of rows of `length` tokens begin with the learnt ones."""
        self._length = length
        try:
            yield
        finally:
            self._length = None

    def _replace(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if self._length is None or output.dim() != 3 or output.shape[1] != self._length:
            return None
        front = self.vectors.to(output.dtype).expand(len(output), -1, -1)
        return torch.cat([front, output[:, self.num_tokens :]], 1)


def soft_prompt(vlm: Any, settings: Mapping[str, Any]) -> SoftPrompt | None:
    """The learnt tokens that a `peft:` section asks for, fastened to a backbone; None if it asks for none.

    Raises:
        ConfigError: the backbone has no table of input embeddings.
    """
    if kind_of(settings) != "prompt_tuning":
        return None
    return SoftPrompt(input_embedding(vlm), settings)


def input_embedding(vlm: Any) -> nn.Embedding:
    """A backbone's table of input embeddings.

    Raises:
        ConfigError: it has none.
    """
    table = vlm.get_input_embeddings() if hasattr(vlm, "get_input_embeddings") else getattr(vlm, "embed_tokens", None)
    if not isinstance(table, nn.Embedding):
        raise ConfigError(f"model.peft.type: prompt_tuning, but {type(vlm).__name__} has no table of input embeddings")
    return table
