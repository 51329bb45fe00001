"""Queries and documents to PreFLMR's inputs: token ids, the masks of what counts, pixels or cached features."""

# B rows, L text places, C pictures per row, T feature rows, D width

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from mmret.errors import SampleError
from mmret.models.backbones import PictureSettings, TextTokenizer, black, pixels
from mmret.models.backbones.picture import refuse_videos
from mmret.models.preflmr.config import PreFLMRConfig
from mmret.models.preflmr.tokens import Tokens
from mmret.types import Content, Inputs, Role

BLACK = b"black"


class PreFLMRProcessor:
    """Contents to model inputs; runs in data workers.

    Dense inputs of both sides: `input_ids`, `attention_mask` [B, L] int64 and `keep_mask` [B, L] bool; queries have
    `cross_visible` [B, L] bool too. With pictures: `pixel_values` [B, 3, px, px], or [B, C, 3, px, px] where a row has
    several, and `use_image` [B, C] bool. `use_text` [B] bool only where a caller switches single rows off.

    `features` maps a tower's name ("vision", "query_text", "document_text") to a reader of its cached outputs. Where
    all rows of a call are in it, `vision_features` or `text_features` are given and no picture is decoded.
    """

    def __init__(self, config: PreFLMRConfig, tokenizer: TextTokenizer, picture: PictureSettings | None) -> None:
        self.config, self.picture = config, picture
        self.tokens = Tokens(config, tokenizer)
        self.features: dict[str, Any] = {}
        self.patches: int | None = None
        """Patches of a picture, any of which may be left out; None: the tower reads whole pictures only."""

    def __call__(
        self,
        contents: Sequence[Content],
        role: Role,
        *,
        use_text: Sequence[bool] | None = None,
        use_image: Sequence[bool] | None = None,
    ) -> Inputs:
        """Inputs of the contents, in their order.

        Args:
            contents: what to encode.
            role: which side they are on.
            use_text, use_image: per row, off takes that part out of the score (its places become zero vectors).

        Raises:
            SampleError: a query without text; a document of which nothing counts; a picture that does not decode; more
                pictures than the model takes; a video.
        """
        refuse_videos(contents, role, "PreFLMR")
        ids, attention = self._ids(contents, role)
        if role == "query":
            keep = self.tokens.query_keep(ids, attention)
            self.tokens.warn_if_cut(ids, torch.tensor([bool((c.instruction or "").strip()) for c in contents]))
            dense = {"cross_visible": self.tokens.cross_visible(ids, keep)}
        else:
            keep = self.tokens.document_keep(ids, attention)
            self._check_documents(contents, ids, keep)
            dense = {}
        dense = {"input_ids": ids, "attention_mask": attention, "keep_mask": keep, **dense}
        dense |= self._text_features(ids, attention, role)
        dense |= self._vision(contents, role)
        if use_text is not None:
            dense["use_text"] = torch.tensor(list(use_text), dtype=torch.bool)
        if use_image is not None and "use_image" in dense:
            dense["use_image"] = dense["use_image"] & torch.tensor(list(use_image), dtype=torch.bool)[:, None]
        return Inputs(dense)

    def tower_keys(self, contents: Sequence[Content], role: Role) -> dict[str, list[bytes | None]]:
        """16 bytes per row and tower that decide the tower's output, without decoding a picture; None: not run."""
        ids, attention = self._ids(contents, role)
        keys: dict[str, list[bytes | None]] = {f"{role}_text": list(self._text_keys(ids, attention, role))}
        if self.config.sees(role):
            keys["vision"] = [self._vision_key(content, role) for content in contents]
        return keys

    def _ids(self, contents: Sequence[Content], role: Role) -> tuple[Tensor, Tensor]:
        if role == "document":
            return self.tokens.encode([content.text or "" for content in contents], role)
        texts = [self.tokens.query_text(content.instruction, content.text) for content in contents]
        for row, (text, content) in enumerate(zip(texts, contents)):
            if not text and (self.config.use_instructions or not content.images):
                raise SampleError(
                    f"{_called('query', row, content)} has neither text nor instruction: PreFLMR's mapping network "
                    "reads the query's text even where only the picture is scored; give it at least an instruction"
                )
        return self.tokens.encode(texts, role)

    def _check_documents(self, contents: Sequence[Content], ids: Tensor, keep: Tensor) -> None:
        """Each document needs something beside [CLS], the marker and [SEP] that counts."""
        frame = torch.tensor([self.tokens.cls, self.tokens.sep, self.tokens.markers["document"] or self.tokens.cls])
        empty = ~(keep & ~torch.isin(ids, frame)).any(1)
        for row in empty.nonzero()[:, 0].tolist():
            content = contents[row]
            if self.config.sees("document") and content.images:
                continue
            if (content.text or "").strip():
                raise SampleError(
                    f"{_called('document', row, content)} is made only of punctuation ({content.text!r}), "
                    "of which nothing counts in a score; drop it, or set model.mask_punctuation: false"
                )
            raise SampleError(f"{_called('document', row, content)} has no text" + self._unseen(content))

    def _unseen(self, content: Content) -> str:
        return ", and model.document_vision is off, so its picture is not used" if content.images else ""

    def _vision(self, contents: Sequence[Content], role: Role) -> dict[str, Tensor]:
        """Pixels or cached features, and which pictures are there; nothing if no row has or needs a picture."""
        if not self.config.sees(role) or not contents:
            return {}
        assert self.picture is not None
        for row, content in enumerate(contents):
            if len(content.images) > 1 and role == "query" and self.config.maps_patches:
                raise SampleError(
                    f"{_called('query', row, content)} has {len(content.images)} pictures; with the mapping network "
                    "a query has one (model.use_mapping: false takes several)"
                )
        pictures = [self._pictures(content, role) for content in contents]
        most = max(map(len, pictures))
        if most == 0:
            return {}
        use = torch.tensor([[i < len(row) for i in range(most)] for row in pictures])
        features = self._vision_features(contents, role, most)
        if features is not None:
            return {"vision_features": features, "use_image": use}
        blank = black(self.picture)
        rows = [
            torch.stack(
                [blank if image is None else pixels(image, self.picture) for image in row] + [blank] * (most - len(row))
            )
            for row in pictures
        ]
        values = torch.stack(rows)
        return {"pixel_values": values[:, 0] if most == 1 else values, "use_image": use}

    def _pictures(self, content: Content, role: Role) -> list[Any]:
        """A row's pictures; None stands for the black one."""
        if not content.images and role == "query" and self.config.missing_image == "black":
            return [None]
        return list(content.images)

    def _vision_features(self, contents: Sequence[Content], role: Role, most: int) -> Tensor | None:
        """[B, T, D] from the cache; None unless every row with a picture is there."""
        reader = self.features.get("vision")
        keys = [self._vision_key(content, role) for content in contents]
        if reader is None or not all(key is None or key in reader for key in keys):
            return None
        rows = [None if key is None else reader.get(key) for key in keys]
        first = next(row for row in rows if row is not None)
        mapped = role == "query" and self.config.maps_patches
        places = len(first) if mapped else most
        full = first.new_zeros(len(rows), places, first.shape[1])
        for row, found in enumerate(rows):
            if found is not None:
                full[row, : len(found)] = found
        return full

    def _vision_key(self, content: Content, role: Role) -> bytes | None:
        pictures = self._pictures(content, role)
        if not pictures:
            return None
        # Mapped queries keep all patches, everything else only the global feature of each picture.
        kind = "patches" if role == "query" and self.config.maps_patches else "global"
        digest = blake2b(f"{kind} {self.picture}".encode(), digest_size=16)
        for image in pictures:
            digest.update(BLACK if image is None else image.key)
        return digest.digest()

    def _text_features(self, ids: Tensor, attention: Tensor, role: Role) -> dict[str, Tensor]:
        """[B, L, H] from the cache; nothing unless every row is there."""
        reader = self.features.get(f"{role}_text")
        if reader is None or not len(ids):
            return {}
        keys = self._text_keys(ids, attention, role)
        if not all(key in reader for key in keys):
            return {}
        rows = [reader.get(key) for key in keys]
        full = rows[0].new_zeros(*ids.shape, rows[0].shape[1])
        for row, found in enumerate(rows):
            full[row, : len(found)] = found
        return {"text_features": full}

    def _text_keys(self, ids: Tensor, attention: Tensor, role: Role) -> list[bytes]:
        keys = []
        for row, length in zip(ids, attention.sum(1).tolist()):
            read = row if role == "query" else row[:length]  # a document's padding has no say in its outputs
            text = f"{role} {length} ".encode() + read.numpy().tobytes()
            keys.append(blake2b(text, digest_size=16).digest())
        return keys


def _called(role: str, row: int, content: Content) -> str:
    """How a message names a row."""
    name = content.id or next((image.name for image in content.images), None)
    return f"{role} {row} of the batch" + (f" ({name})" if name else "")
