"""An interleaved document: its parts in order, the contents and the pairs that they make."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from mmret.data.sources.picture import Picture
from mmret.data.sources.table.row import is_empty
from mmret.errors import SampleError

_SEPARATOR = "\n"
_MARKERS = re.compile(
    r"<\|(?:image|video)(?:_\d+|_pad|_start)?\|>|<image>|<video>|<start_of_image>|<IMG_CONTEXT>|</?img>|<fake_token_around_image>"
)
"""What stands for a picture in some model's prompts; in a web page it would be taken for one of its pictures."""


@dataclass(frozen=True)
class Interleaved:
    """Texts and pictures in order; any number of pictures may follow each other."""

    text: str | None
    """With a placeholder for each picture, if those are wanted."""
    pictures: tuple[Picture, ...]


def places(texts: Any, images: Any) -> list[tuple[str, Any]]:
    """("text" or "image", value) of each place of a document.

    Raises:
        SampleError: no lists, or not as long as each other, or a place at which both or neither is set.
    """
    if not isinstance(texts, list) or not isinstance(images, list):
        kinds = f"{type(texts).__name__} and {type(images).__name__}"
        raise SampleError(f"no lists: texts and images are {kinds}; want two lists of the same length")
    if len(texts) != len(images):
        raise SampleError(f"unequal lists: {len(texts)} texts, {len(images)} images; want a place in both for each")
    found: list[tuple[str, Any]] = []
    for at, (text, image) in enumerate(zip(texts, images)):
        no_text, no_image = is_empty(text), is_empty(image)
        if no_text == no_image:
            both = "neither text nor image" if no_text else "both a text and an image"
            raise SampleError(f"{'neither' if no_text else 'both'} set: place {at} has {both}; want one of them")
        if no_image and not isinstance(text, str):
            raise SampleError(f"no text: place {at} of the texts holds {type(text).__name__}")
        found.append(("text", text) if no_image else ("image", image))
    return found


def clean(text: str) -> str:
    """A text without what models would take for a picture's placeholder."""
    return _MARKERS.sub(" ", text).strip()


def interleave(parts: Sequence[str | Picture], placeholders: bool, max_images: int | None) -> Interleaved:
    """Parts to one content; a placeholder `<|image_N|>`, numbered from 1, on a line of its own for each picture."""
    pictures: list[Picture] = []
    lines: list[str] = []
    for part in parts:
        if isinstance(part, str):
            lines.append(part)
        elif max_images is None or len(pictures) < max_images:
            pictures.append(part)
            if placeholders:
                lines.append(f"<|image_{len(pictures)}|>")
    return Interleaved(_SEPARATOR.join(lines) or None, tuple(pictures))


def consecutive(parts: Sequence[str | Picture], max_words: int | None) -> Iterator[tuple[list[str | Picture], str]]:
    """Each run of pictures that a text follows: (the text above, if any, and the pictures; the text below)."""
    runs = [(kind, list(run)) for kind, run in groupby(parts, lambda part: isinstance(part, str))]
    for at, (is_text, pictures) in enumerate(runs):
        if is_text or at + 1 == len(runs):
            continue
        above = _SEPARATOR.join(str(text) for text in runs[at - 1][1]) if at else ""
        below = _SEPARATOR.join(str(text) for text in runs[at + 1][1])
        asking: list[str | Picture] = [last_words(above, max_words)] if above else []
        yield [*asking, *pictures], first_words(below, max_words)


def shorten(parts: Sequence[str | Picture], max_words: int | None) -> list[str | Picture]:
    """A document up to its `max_words`th word; pictures below that are left out."""
    found: list[str | Picture] = []
    left = max_words
    for part in parts:
        if left is not None and isinstance(part, str):
            if left == 0:
                break
            part = first_words(part, left)
            left -= len(part.split())
        found.append(part)
    return found


def first_words(text: str, number: int | None) -> str:
    """The text up to its `number`th word, its white space as it is."""
    ends = [word.end() for word in re.finditer(r"\S+", text)] if number is not None else []
    return text if number is None or len(ends) <= number else text[: ends[number - 1]]


def last_words(text: str, number: int | None) -> str:
    """The last `number` words of a text, their white space as it is."""
    starts = [word.start() for word in re.finditer(r"\S+", text)] if number is not None else []
    return text if number is None or len(starts) <= number else text[starts[-number] :]
