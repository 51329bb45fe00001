"""Contents to VLMo's inputs: WordPiece ids padded to the batch's longest text, pictures squashed to a square."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from mmret.errors import ConfigError, SampleError
from mmret.models.backbones import PictureSettings, TextTokenizer, local_folder, pixels
from mmret.models.backbones.picture import refuse_videos
from mmret.models.vlmo.config import VLMoConfig
from mmret.types import Content, Inputs, Role, TokenVocabulary

KNOWN = {"bert-base-uncased": 30522, "google-bert/bert-base-uncased": 30522}
"""Vocabulary sizes known without a download."""


class VLMoProcessor:
    """Texts give input_ids and attention_mask [B, T], pictures pixel_values [B, 3, px, px].

    Rows with n > 1 pictures give [B, n, 3, px, px]. Rows of a batch all have text or none, and as many pictures each.
    """

    def __init__(self, config: VLMoConfig, tokenizer: TextTokenizer | None = None) -> None:
        self.config = config
        self.picture = PictureSettings(config.image_px, (0.5,) * 3, (0.5,) * 3, config.image_fit, config.image_decode)
        if tokenizer is not None:
            self.tokenizer = tokenizer

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        """Opened on first use, so that a model can be built where its vocabulary is not."""
        name = self.config.tokenizer
        if name == "tiny":
            return TextTokenizer.tiny()
        return TextTokenizer.from_folder(local_folder(name, "model.tokenizer", weights=False))

    @property
    def window(self) -> int:
        """Patches along one side of a picture; what patch masking must know."""
        return self.config.window

    @property
    def patches(self) -> int:
        """Patches of a picture, any of which may be left out."""
        return self.config.window**2

    @property
    def num_tokens(self) -> int:
        """Size of the vocabulary."""
        known = self.config.vocabulary or KNOWN.get(self.config.tokenizer)
        return len(self.tokenizer) if known is None else known

    @cached_property
    def vocabulary(self) -> TokenVocabulary:
        """What token masking must know."""
        special = tuple(self.tokenizer.special_id(name) for name in ("pad", "cls", "sep"))
        tokens = [self.tokenizer.backend.id_to_token(i) or "" for i in range(len(self.tokenizer))]
        continues = torch.tensor([token.startswith("##") for token in tokens])
        return TokenVocabulary(self.tokenizer.special_id("mask"), special, continues, self.config.max_text_tokens)

    def __call__(self, contents: Sequence[Content], role: Role) -> Inputs:
        """Inputs of N contents; both roles are read alike.

        Raises:
            SampleError: rows of one batch differ in whether they have text, or in the number of pictures; a video.
        """
        refuse_videos(contents, role, "VLMo")
        texts = [content.text is not None for content in contents]
        counts = {len(content.images) for content in contents}
        if any(texts) != all(texts) or len(counts) > 1:
            raise SampleError(
                f"VLMo reads rows of one kind at a time: {sum(texts)} of {len(texts)} rows ({role}) have a text, "
                f"pictures per row: {sorted(counts)}; use a source whose rows are alike"
            )
        dense: dict[str, Tensor] = {}
        if any(texts):
            dense["input_ids"], dense["attention_mask"] = self.encode([_text(content) for content in contents])
        if counts and (number := counts.pop()):
            rows = [torch.stack([pixels(i, self.picture) for i in content.images]) for content in contents]
            stacked = torch.stack(rows)
            dense["pixel_values"] = stacked[:, 0] if number == 1 else stacked
        if not dense:
            raise SampleError(f"a {role} has neither text nor picture")
        return Inputs(dense)

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """[CLS] text [SEP], cut to `max_text_tokens`, padded to the longest: ids and mask, [N, T] int64."""
        tokenizer = self.tokenizer
        if len(tokenizer) > self.num_tokens:
            raise ConfigError(
                f"model.tokenizer {self.config.tokenizer} has {len(tokenizer)} tokens, the model embeds "
                f"{self.num_tokens}; set model.tokenizer to the vocabulary that the weights were made with"
            )
        pad, cls, sep = (tokenizer.special_id(name) for name in ("pad", "cls", "sep"))
        rows = [[cls, *ids[: self.config.max_text_tokens - 2], sep] for ids in tokenizer.ids(texts)]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
        lengths = torch.tensor([len(row) for row in rows])
        return ids, (torch.arange(longest) < lengths[:, None]).long()


def _text(content: Content) -> str:
    return " ".join(part for part in (content.instruction, content.text) if part)
