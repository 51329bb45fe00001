"""Texts to token ids and masks: markers, [MASK] filling, what counts in the score."""

# B rows, L places

from __future__ import annotations

import logging
import string
from collections.abc import Sequence

import torch
from torch import Tensor

from mmret.errors import ConfigError
from mmret.models.backbones.tokenizer import TextTokenizer
from mmret.models.preflmr.config import PreFLMRConfig
from mmret.types import Role

logger = logging.getLogger(__name__)


class Tokens:
    """PreFLMR's text side: [CLS] marker text [SEP], and the masks over it."""

    def __init__(self, config: PreFLMRConfig, tokenizer: TextTokenizer) -> None:
        self.config, self.tokenizer = config, tokenizer
        self.pad, self.cls, self.sep = (tokenizer.special_id(name) for name in ("pad", "cls", "sep"))
        self.mask = tokenizer.special_id("mask") if config.fill_query else None
        self.markers: dict[Role, int | None] = {
            "query": self._named(config.query_marker, "query_marker"),
            "document": self._named(config.document_marker, "document_marker"),
        }
        self.separator = self._separator(config.instruction_separator)
        self.document_skip_ids = self._punctuation() if config.mask_punctuation else []
        self._warned = False

    def encode(self, texts: Sequence[str], role: Role, *, width: int | None = None) -> tuple[Tensor, Tensor]:
        """Token ids and attention mask, both [B, L] int64.

        Queries are cut and filled to `query_tokens`, their free places being [MASK] with attention 0. Documents are cut
        to `document_tokens` and padded to the longest of them, or to `width`.
        """
        length = self.config.query_tokens if role == "query" else self.config.document_tokens
        marker = self.markers[role]
        head = [self.cls] if marker is None else [self.cls, marker]
        room = length - len(head) - 1
        rows = [[*head, *ids[:room], self.sep] for ids in self.tokenizer.ids(texts)]
        width = width or (length if role == "query" else max(map(len, rows), default=0))
        fill = self.mask if role == "query" and self.mask is not None else self.pad
        ids = torch.tensor([row + [fill] * (width - len(row)) for row in rows], dtype=torch.long).view(len(rows), width)
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.long)
        return ids, (torch.arange(width) < lengths[:, None]).long()

    def query_keep(self, ids: Tensor, attention: Tensor) -> Tensor:
        """[B, L] bool: places that count in the score.

        With an instruction separator, only [CLS], the marker and what follows the first separator count; a row without
        one is left whole. Filled places count, plain padding does not.
        """
        keep = ids != self.pad
        if self.mask is None:
            keep &= attention.bool()
        if self.config.query_skip_ids:
            keep &= ~torch.isin(ids, torch.tensor(self.config.query_skip_ids, device=ids.device))
        if self.separator is not None:
            first = (ids == self.separator).int().argmax(1, keepdim=True).clamp(min=1)
            place = torch.arange(ids.shape[1], device=ids.device)
            keep &= (place > first) | (place < 2)
        return keep

    def cross_visible(self, ids: Tensor, keep: Tensor) -> Tensor:
        """[B, L] bool: places that the mapping network reads."""
        if self.config.cross_attention_sees == "kept":
            return keep
        if not self.config.query_skip_ids:
            return torch.ones_like(keep)
        return ~torch.isin(ids, torch.tensor(self.config.query_skip_ids, device=ids.device))

    def document_keep(self, ids: Tensor, attention: Tensor) -> Tensor:
        """[B, L] bool: places that count in the score, neither padding nor punctuation."""
        keep = (ids != self.pad) & attention.bool()
        if self.document_skip_ids:
            keep &= ~torch.isin(ids, torch.tensor(self.document_skip_ids, device=ids.device))
        return keep

    def query_text(self, instruction: str | None, text: str | None) -> str:
        """Instruction, ended by the separator (added where it is missing), a blank, and the text.

        A text that carries its own instruction up to a separator needs no `instruction`.
        """
        instruction = (instruction or "").strip() if self.config.use_instructions else ""
        text = (text or "").strip()
        separator = self.config.instruction_separator
        if instruction and separator is not None:
            instruction = (instruction if instruction.endswith(":") else f"{instruction}:").replace(":", separator)
        return f"{instruction} {text}".strip()

    def warn_if_cut(self, ids: Tensor, instructed: Tensor) -> None:
        """Say once that instructions are longer than a query may be; their words then count in the score.

        Args:
            ids: [B, L].
            instructed: [B] bool, rows that have an instruction.
        """
        if self._warned or self.separator is None or not self.config.use_instructions:
            return
        cut = instructed & ~(ids == self.separator).any(1)
        if cut.any():
            self._warned = True
            logger.warning(
                "%d of %d queries lose their instruction separator '%s' at query_tokens=%d: nothing of them is masked, "
                "and the question after it is lost. Shorten the instructions or raise model.query_tokens (said once)",
                int(cut.sum()),
                len(ids),
                self.config.instruction_separator,
                self.config.query_tokens,
            )

    def _named(self, token: str | None, key: str) -> int | None:
        if token is None:
            return None
        number = self.tokenizer.id_of(token)
        if number is None:
            raise ConfigError(f"model.{key}: the tokenizer has no token {token}; set it to null to do without")
        return number

    def _separator(self, token: str | None) -> int | None:
        if token is None:
            return None
        ids = self.tokenizer.ids([token])[0]
        if len(ids) != 1 or ids[0] == self.tokenizer.id_of(self.tokenizer.special["unk"]):
            raise ConfigError(
                f"model.instruction_separator: '{token}' is not one token of this vocabulary; use ':' or null"
            )
        return ids[0]

    def _punctuation(self) -> list[int]:
        unknown = self.tokenizer.id_of(self.tokenizer.special["unk"])
        firsts = {ids[0] for ids in self.tokenizer.ids(list(string.punctuation)) if ids}
        return sorted(firsts - {unknown})
