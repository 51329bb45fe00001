"""The strings of MMEB's evaluation rows: instruction and text to a prompt, as the published code composes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

PLACEHOLDER = "<|image_1|>"
"""Stands for the picture in all published strings, whatever the model."""


@dataclass(frozen=True)
class Template:
    """One kind of string: `start`, instruction, blank, text, `end`."""

    start: str = ""
    own_line: bool = False
    """The instruction loses the white space around it and begins with a newline."""
    always_blank: bool = False
    """The blank behind the instruction stands even if no text follows."""
    tidy: bool = False
    """A blank before a newline goes; not one before `end`."""
    end: str = ""

    def __call__(self, instruction: str, text: str) -> str:
        """The string. A placeholder in the instruction goes: `start` brings it."""
        instruction = instruction.replace(PLACEHOLDER, "")
        if self.own_line:
            instruction = "\n" + instruction.strip()
        prompt = self.start + instruction + (f" {text}" if text or self.always_blank else "")
        return (prompt.replace(" \n", "\n") if self.tidy else prompt) + self.end


@dataclass(frozen=True)
class Kind:
    """The strings of one kind of task."""

    query: Template
    image: Template | None = None
    """Of a candidate that is a picture; None: candidates are texts, which stay as they are."""
    image_text: Template | None = None
    """Of a candidate that is a picture with a text."""

    def candidates(self, instruction: str, texts: list[str]) -> list[str]:
        """The strings of a row's candidates; whether the first has a text decides for all, as published."""
        if self.image is None or self.image_text is None:
            return texts
        if texts[0].strip():
            return [self.image_text(instruction, text) for text in texts]
        return [self.image(instruction, "")] * len(texts)


@cache
def published() -> dict[str, Kind]:
    """Set, by the name of its folder, -> how its strings are composed; in the order of the benchmark."""
    file = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))
    kinds = {
        name: Kind(**{part: Template(**keys) for part, keys in parts.items()}) for name, parts in file["kinds"].items()
    }
    return {name: kinds[kind] for name, kind in file["sets"].items()}


def spec_name(folder: str) -> str:
    """A set's name in our specs: ImageNet-1K and ImageNet_1K -> imagenet_1k."""
    return re.sub(r"\W", "_", folder.lower())
