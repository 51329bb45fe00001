"""A content's prompt: placeholders, instruction, text. No chat template, no end token of ours, as published."""

from __future__ import annotations

import re

from mmret.errors import SampleError
from mmret.models.backbones.vlm_family import Family, RowPictures
from mmret.types import Content

PUBLISHED_PLACEHOLDER = re.compile(r"<\|image_(\d+)\|>")
"""Phi-3.5-V's, which published data sets carry for every model."""

PUBLISHED_VIDEO = Family.VIDEO_PLACEHOLDER
"""Says in data for every model where the video stands."""


def compose(
    content: Content, placeholder: str, video_placeholder: str = PUBLISHED_VIDEO, pictures_first: bool = True
) -> str:
    """One placeholder a picture, one for a video, then instruction and text, each parted by one blank; or text first.

    A text or instruction that already holds placeholders (the backbone's or the published data's) says itself where
    the pictures stand and is otherwise left as it is, to the last blank and newline. Where `placeholder` holds a {},
    each picture's number in the row takes its place.

    Raises:
        SampleError: nothing to encode, or not as many placeholders as pictures or videos.
    """
    name = content.id or "a content"
    text, instruction = content.text or "", content.instruction or ""
    prompt = f"{instruction} {text}" if instruction and text else instruction + text
    prompt = PUBLISHED_PLACEHOLDER.sub(lambda found: placeholder.format(found[1]), prompt)
    prompt = prompt.replace(PUBLISHED_VIDEO, video_placeholder)
    if not prompt and not content.pictures:
        raise SampleError(f"{name}: neither text nor picture; there is nothing to encode")
    videos = 0 if content.video is None else 1
    kinds = [(video_placeholder, videos, "videos"), (placeholder, len(content.images), "pictures")]
    for token, wanted, what in kinds if pictures_first else reversed(kinds):
        given = len(_any_number(token).findall(prompt))
        if given == 0:
            tokens = [token.format(i + 1) for i in range(wanted)]
            if pictures_first:
                prompt = "".join(f"{one} " for one in tokens) + prompt
            else:
                prompt = " ".join([prompt, *tokens] if prompt else tokens)
        elif given != wanted:
            raise SampleError(f"{name}: {given} placeholders {token.format('N')} in its text, but {wanted} {what}")
    return prompt


def marked(prompt: str, placeholder: str, seen: RowPictures) -> str:
    """A prompt in which the text that stands for each picture takes its placeholder's place.

    Raises:
        SampleError: not as many placeholders as pictures.
    """
    wanted = len(seen.places if seen.markup is None else seen.markup)
    pieces = _any_number(placeholder).split(prompt)
    if len(pieces) - 1 != wanted:
        shown = placeholder.format("N")
        raise SampleError(f"{len(pieces) - 1} placeholders {shown} in '{prompt[:60]}', want {wanted}")
    return prompt if seen.markup is None else "".join(map("".join, zip(pieces, [*seen.markup, ""])))


def _any_number(placeholder: str) -> re.Pattern[str]:
    return re.compile(re.escape(placeholder).replace(re.escape("{}"), r"\d+"))
