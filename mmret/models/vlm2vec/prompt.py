"""A content's prompt: placeholders, instruction, text. No chat template, no end token, as published."""

from __future__ import annotations

import re

from mmret.errors import SampleError
from mmret.types import Content

PUBLISHED_PLACEHOLDER = re.compile(r"<\|image_\d+\|>")
"""Phi-3.5-V's, which published data sets carry for every model."""


def compose(content: Content, placeholder: str) -> str:
    """One placeholder a picture, then instruction and text, each parted by one blank.

    A text or instruction that already holds placeholders (the backbone's or the published data's) says itself where
    the pictures stand and is otherwise left as it is, to the last blank and newline.

    Raises:
        SampleError: nothing to encode, or not as many placeholders as pictures.
    """
    name = content.id or "a content"
    text, instruction = content.text or "", content.instruction or ""
    prompt = f"{instruction} {text}" if instruction and text else instruction + text
    prompt = PUBLISHED_PLACEHOLDER.sub(placeholder, prompt)
    if not prompt and not content.images:
        raise SampleError(f"{name}: neither text nor picture; there is nothing to encode")
    given, wanted = prompt.count(placeholder), len(content.images)
    if given == 0:
        prompt = f"{placeholder} " * wanted + prompt
    elif given != wanted:
        raise SampleError(f"{name}: {given} placeholders {placeholder} in its text, but {wanted} pictures")
    return prompt
