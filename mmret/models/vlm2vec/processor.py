"""Contents to token ids with expanded placeholders, and pictures as ragged patches or tiles."""

# B rows, L places

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmret.errors import ConfigError, SampleError
from mmret.models.backbones.tokenizer import TextTokenizer
from mmret.models.backbones.vlm_family import Family, RowPictures
from mmret.models.vlm2vec.prompt import compose
from mmret.types import Content, Inputs, Role

Images = Sequence[Image.Image]


class VLM2VecProcessor:
    """Queries and documents alike: prompt -> ids, each placeholder repeated once per token of its picture.

    Args:
        family: what is particular to the backbone.
        tokenizer: its own; adds a begin token where its files say so.
        padding: left | right.
        max_length: most tokens of a row; None: no limit.
    """

    def __init__(self, family: Family, tokenizer: TextTokenizer, padding: str, max_length: int | None = None) -> None:
        self.family, self.tokenizer, self.padding, self.max_length = family, tokenizer, padding, max_length
        self.pad_id = tokenizer.id_of(tokenizer.special["pad"]) or 0
        number = tokenizer.id_of(family.PLACEHOLDER)
        if number is None:
            raise ConfigError(f"the tokenizer has no {family.PLACEHOLDER}; is it the backbone's own?")
        self.image_id = number
        video = family.VIDEO_PLACEHOLDER
        self.video_id = None if video is None else tokenizer.id_of(video)

    def __call__(self, contents: Sequence[Content], role: Role) -> Inputs:
        """Rows of input_ids and attention_mask [B, L], and ragged pictures where a row has any.

        Raises:
            SampleError: a picture does not decode, placeholders and pictures do not match, or a row is empty.
        """
        prompts = [compose(content, self.family.PLACEHOLDER) for content in contents]
        images = [[self._decoded(image.decode()) for image in content.images] for content in contents]
        return self.rows(prompts, images)

    def rows(
        self,
        prompts: Sequence[str],
        images: Sequence[Images],
        videos: Sequence[Sequence[Images]] | None = None,
    ) -> Inputs:
        """The same from ready prompts, each row's pictures in order, and its videos, each a list of frames."""
        ids, tensors = [], []
        for row, prompt in enumerate(prompts):
            pictures = self.family.pictures(images[row]) if images[row] else RowPictures({}, [])
            films = videos[row] if videos else []
            moving = self.family.videos(films) if films else RowPictures({}, [])
            ids.append(self._expanded(prompt, pictures.places, moving.places))
            tensors.append({**pictures.tensors, **moving.tensors})
        names = sorted({name for row in tensors for name in row})
        ragged = {name: [row.get(name, self.family.empty(name)) for row in tensors] for name in names}
        return Inputs(self._padded(ids), ragged)

    def _decoded(self, image: Image.Image) -> Image.Image:
        return image if image.mode == "RGB" else image.convert("RGB")

    def _expanded(self, prompt: str, images: Sequence[int], videos: Sequence[int]) -> list[int]:
        """Token ids of a prompt with every placeholder as often as its picture has tokens, cut to `max_length`."""
        places = {self.image_id: iter(images), **({} if self.video_id is None else {self.video_id: iter(videos)})}
        found = self.tokenizer.backend.encode(prompt).ids
        for number, given in ((self.image_id, images), (self.video_id, videos)):
            if number is not None and found.count(number) != len(given):
                token = self.tokenizer.backend.id_to_token(number)
                raise SampleError(f"{found.count(number)} placeholders {token} in '{prompt[:60]}', want {len(given)}")
        ids: list[int] = []
        for number in found:
            ids.extend([number] * next(places[number]) if number in places else [number])
        if self.max_length is not None and len(ids) > self.max_length:
            if any(number in places for number in ids[self.max_length :]):
                raise SampleError(
                    f"max_length {self.max_length} would cut off a picture; this row has {len(ids)} tokens"
                )
            ids = ids[: self.max_length]
        return ids

    def _padded(self, ids: Sequence[list[int]]) -> dict[str, Tensor]:
        rows = [torch.tensor(row, dtype=torch.long) for row in ids]
        masks = [torch.ones_like(row) for row in rows]
        return {
            "input_ids": pad_sequence(rows, True, self.pad_id, padding_side=self.padding),
            "attention_mask": pad_sequence(masks, True, 0, padding_side=self.padding),
        }
