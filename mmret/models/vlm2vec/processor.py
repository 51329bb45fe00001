"""Contents to token ids with expanded placeholders, and pictures as ragged patches or tiles."""

# B rows, L places

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import torch
from msgspec.structs import replace
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmret.errors import ConfigError, SampleError
from mmret.models.backbones.tokenizer import TextTokenizer
from mmret.models.backbones.vlm_family import Family, Film, RowPictures
from mmret.models.vlm2vec.prompt import compose, marked
from mmret.types import Content, Inputs, Role

Images = Sequence[Image.Image]


class VLM2VecProcessor:
    """Queries and documents alike: prompt -> ids, each placeholder repeated once per token of its picture.

    Args:
        family: what is particular to the backbone.
        tokenizer: its own; adds a begin token where its files say so.
        padding: left | right.
        max_length: most tokens of a row; None: no limit.
        num_frames: most frames of a video, spread evenly; None: all.
        pictures_first: where pictures stand whose text does not say it: before it, or behind it.
        use_instructions: read them; else a content is its text and pictures alone.
        end_token: what stands behind every row; None: nothing.

    Raises:
        ConfigError: the tokenizer lacks the backbone's placeholder, or the end token that is asked for.
    """

    def __init__(
        self,
        family: Family,
        tokenizer: TextTokenizer,
        padding: str,
        max_length: int | None = None,
        num_frames: int | None = None,
        pictures_first: bool = True,
        use_instructions: bool = True,
        end_token: str | None = None,
    ) -> None:
        self.family, self.tokenizer, self.padding, self.max_length = family, tokenizer, padding, max_length
        self.num_frames, self.pictures_first = num_frames, pictures_first
        self.use_instructions = use_instructions
        end = None if end_token is None else tokenizer.id_of(end_token)
        if end_token is not None and end is None:
            raise ConfigError(f"model.end_token: '{end_token}' is not in the tokenizer's vocabulary")
        self.end = [] if end is None else [end]
        self.pad_id = tokenizer.id_of(tokenizer.special["pad"]) or 0
        token = family.TOKEN or family.PLACEHOLDER
        self.image_id = tokenizer.id_of(token)
        if self.image_id is None and "{}" not in token:  # numbered ones become ids below 0
            raise ConfigError(f"the tokenizer has no {token}; is it the backbone's own?")
        self.video_id = None if family.VIDEO_TOKEN is None else tokenizer.id_of(family.VIDEO_TOKEN)
        self.features: dict[str, Any] = {}
        """Readers of what a frozen tower ("vision") made earlier; such pictures are not decoded."""

    def __call__(self, contents: Sequence[Content], role: Role) -> Inputs:
        """Rows of input_ids and attention_mask [B, L], and ragged pictures where a row has any.

        Raises:
            SampleError: a picture does not decode, placeholders and pictures do not match, or a row is empty.
        """
        places = self.family.PLACEHOLDER, self.family.VIDEO_PLACEHOLDER
        asked = contents if self.use_instructions else [replace(content, instruction=None) for content in contents]
        prompts = [compose(content, *places, self.pictures_first) for content in asked]
        known = self._known(contents)
        if known is not None:
            return self._joined(prompts, known)
        images = [[self._decoded(image.decode()) for image in content.images] for content in contents]
        return self.rows(prompts, images, [self._films(content) for content in contents])

    def rows(
        self,
        prompts: Sequence[str],
        images: Sequence[Images],
        videos: Sequence[Sequence[Film]] | None = None,
    ) -> Inputs:
        """The same from ready prompts, each row's pictures in order, and its videos."""
        none = RowPictures({}, [])
        pictures = [self.family.pictures(row) if row else none for row in images]
        moving = [self.family.videos(row) if row else none for row in videos] if videos else None
        return self._joined(prompts, pictures, moving)

    def tower_keys(self, contents: Sequence[Content], role: Role) -> dict[str, list[bytes | None]]:
        """16 bytes per row that decide what the vision tower makes of its pictures; None: it has none."""
        return {"vision": [self._vision_key(content) for content in contents]}

    def _vision_key(self, content: Content) -> bytes | None:
        if not content.images or content.video is not None:
            return None
        settings = f"{self.family.processor} {self.family.square_px}"
        return blake2b(b"".join([settings.encode(), *(i.key for i in content.images)]), digest_size=16).digest()

    def _known(self, contents: Sequence[Content]) -> list[RowPictures] | None:
        """Features of all rows' pictures; None unless every picture was seen before."""
        reader = self.features.get("vision")
        keys = [self._vision_key(content) for content in contents]
        moving = any(content.video is not None for content in contents)
        if reader is None or moving or not all(key is None or key in reader for key in keys):
            return None
        return [
            RowPictures({}, []) if key is None else self.family.seen(reader.get(key), len(content.images))
            for key, content in zip(keys, contents)
        ]

    def _joined(
        self, prompts: Sequence[str], pictures: Sequence[RowPictures], moving: Sequence[RowPictures] | None = None
    ) -> Inputs:
        moving = moving or [RowPictures({}, [])] * len(prompts)
        rows = list(zip(prompts, pictures, moving))
        ids = [self._expanded(prompt, still, film) for prompt, still, film in rows]
        tensors = [_merged(still.tensors, film.tensors) for _, still, film in rows]
        names = sorted({name for row in tensors for name in row})
        ragged = {name: [row.get(name, self.family.empty(name)) for row in tensors] for name in names}
        return Inputs(self._padded(ids), ragged)

    def _decoded(self, image: Image.Image) -> Image.Image:
        return image if image.mode == "RGB" else image.convert("RGB")

    def _films(self, content: Content) -> list[Film]:
        """A content's video, decoded where it is looked at."""
        video = content.video
        if video is None:
            return []
        places = video.places(self.num_frames)
        frames = [self._decoded(video.frames[place].decode()) for place in places]
        return [Film(frames, None if video.fps is None else [place / video.fps for place in places])]

    def _expanded(self, prompt: str, still: RowPictures, film: RowPictures) -> list[int]:
        """Token ids of a prompt with every placeholder as often as its picture has tokens, cut to `max_length`."""
        family = self.family
        text = marked(family.prompt(prompt), family.PLACEHOLDER, still)
        text = marked(text, family.VIDEO_PLACEHOLDER, film)
        for frame in range(text.count(family.PLACEHOLDER) if "{}" in family.PLACEHOLDER else 0):
            number = len(still.places) + frame + 1  # a frame is the row's next picture
            text = text.replace(family.PLACEHOLDER, family.PLACEHOLDER.format(number), 1)
        found = family.prompt_ids(self.tokenizer, text)
        images, videos = still.places, film.places
        if self.video_id is None:
            if videos and prompt.find(family.VIDEO_PLACEHOLDER) < prompt.rfind(family.PLACEHOLDER.partition("{")[0]):
                raise SampleError(f"'{prompt[:60]}': this backbone reads a video behind the row's pictures only")
            images, videos = [*images, *videos], []
        for video, given in ((False, images), (True, videos)):
            have = sum(self._is_place(number, video) for number in found)
            if have != len(given):
                token = family.VIDEO_TOKEN if video else family.TOKEN or family.PLACEHOLDER
                raise SampleError(f"{have} placeholders {token} in '{prompt[:60]}', want {len(given)}")
        places = {False: iter(images), True: iter(videos)}
        ids: list[int] = []
        for number in found:
            kind = next((video for video in places if self._is_place(number, video)), None)
            ids.extend([number] if kind is None else [number] * next(places[kind]))
        whole = bool(images) and not (family.CUTS_PICTURE_ROWS and self.pictures_first)
        room = None if self.max_length is None or whole else self.max_length - len(self.end)
        if room is not None and len(ids) > room:
            if any(self._is_place(number, video) for number in ids[room:] for video in places):
                raise SampleError(
                    f"max_length {self.max_length} would cut off a picture; "
                    f"this row has {len(ids) + len(self.end)} tokens"
                )
            ids = ids[:room]
        return [*ids, *self.end]

    def _is_place(self, number: int, video: bool) -> bool:
        """This id stands for features of a video, or of a picture."""
        return number == self.video_id if video else number == self.image_id or number < 0

    def _padded(self, ids: Sequence[list[int]]) -> dict[str, Tensor]:
        rows = [torch.tensor(row, dtype=torch.long) for row in ids]
        masks = [torch.ones_like(row) for row in rows]
        return {
            "input_ids": pad_sequence(rows, True, self.pad_id, padding_side=self.padding),
            "attention_mask": pad_sequence(masks, True, 0, padding_side=self.padding),
        }


def _merged(still: dict[str, Tensor], film: dict[str, Tensor]) -> dict[str, Tensor]:
    """Where a video is a row of pictures, they stand behind the row's own."""
    both = still.keys() & film.keys()
    return {**still, **film, **{name: torch.cat([still[name], film[name]]) for name in both}}
