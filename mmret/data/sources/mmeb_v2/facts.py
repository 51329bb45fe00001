"""What is known of MMEB-V2's sets as published, read from `published.yaml` and `classes.yaml` beside this file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from mmret.data.sources.mmeb.prompt import PLACEHOLDER, Template, spec_name

VIDEO = "<|video|>"
"""Stands for the video in all strings, whatever the model; VLM2Vec's processor puts the backbone's in its place."""
QUESTION, ON_PICTURE, ON_VIDEO = Template(), Template(start=f"{PLACEHOLDER} "), Template(start=f"{VIDEO} ")
"""A string without, with a picture, with a video before it."""


@dataclass(frozen=True)
class Listing:
    """How a question and its options become one text."""

    start: str
    join: str
    letters: bool = False
    """Options are shown as "(A) option"."""
    end: str = ""
    stripped: bool = False
    """White space at the end goes."""

    def options(self, options: list[str]) -> list[str]:
        """The options as shown."""
        return [
            f"({chr(ord('A') + number)}) {option}" if self.letters else option for number, option in enumerate(options)
        ]

    def __call__(self, question: str, options: list[str]) -> str:
        """Question and options."""
        text = question + self.start + self.join.join(self.options(options)) + self.end
        return text.rstrip() if self.stripped else text


@dataclass(frozen=True)
class SetFacts:
    """One set."""

    name: str
    kind: str
    """classify: a video to its class. answer: video and question to one of its options. find: text to a video. moment:
    video and text to a clip of it, clips by their folders. clips: the same, clips by the table; a query may be a text,
    a text with a picture or one with a video. document: text to a page."""
    hub: str
    """Its repository."""
    config: str | None = None
    """Of the repository; null: it has one."""
    split: str = "test"
    file: str = ""
    """Name of its table where all tables lie in one folder (MMEB-V3's video-tasks/data)."""
    frames: tuple[str, ...] = ()
    """Where its videos' folders may lie below the folder of all frames."""
    video: str = ""
    """Column that names the video."""
    stem: bool = False
    """The column holds a path, of which folder and suffix go."""
    prefix: str = ""
    """Stands before the name in the frames' folder."""
    text: str = ""
    """Column of the query's text; classify: of the right class."""
    options: tuple[str, ...] = ()
    """Column of the list of options, or one column for each. clips: of the right clips and of the others."""
    choices: tuple[str, ...] = ()
    """Options that are the same for all rows."""
    answer: str = ""
    """Column `answer` holds the right option's text, its number from 0, or its letter: text | number | letter."""
    listing: Listing | None = None
    candidates: str = "plain"
    """What options are embedded as: plain: as they are. listed: as the question shows them. bare: without "A. " and
    without dots and blanks at either end."""
    subsets: tuple[str, ...] = ()
    """Tables that together make the set; their names are folders of the frames."""
    rows: int | None = None
    """Only the first so many rows count."""
    instructions: dict[str, str] | None = None
    """Of queries, by what they hold: text, image, video."""
    target: str = ""
    """Instruction of documents that are videos or pages."""
    classes: tuple[str, ...] = ()
    """What all queries rank, beside the classes of the table."""

    @property
    def folder(self) -> str:
        """Its name in our specs."""
        return spec_name(self.name)

    @property
    def own_candidates(self) -> bool:
        """Each query ranks a list of its own; else all search one corpus."""
        return self.kind in ("answer", "moment", "clips") or (self.kind == "classify" and bool(self.options))

    @property
    def columns(self) -> tuple[str, ...]:
        """What its table must have."""
        if self.kind == "document":
            return ()
        return (self.video, self.text, *self.options, *(["answer"] if self.answer else []))

    def query(self, text: str, image: bool = False, video: bool = False) -> str:
        """A query's string."""
        assert self.instructions is not None
        what = "video" if video else "image" if image else "text"
        template = {"video": ON_VIDEO, "image": ON_PICTURE, "text": QUESTION}[what]
        return template(self.instructions[what], text)

    @property
    def document(self) -> str:
        """The string of a document that is a video or a page."""
        return (ON_PICTURE if self.kind == "document" else ON_VIDEO)(self.target, "")


@cache
def published() -> dict[str, SetFacts]:
    """Name in our specs -> set, in the order of the benchmark."""
    folder = Path(__file__).parent
    file = yaml.safe_load((folder / "published.yaml").read_text(encoding="utf-8"))
    classes = yaml.safe_load((folder / "classes.yaml").read_text(encoding="utf-8"))
    sets = (_facts(name, keys, file, classes.get(name, "")) for name, keys in file["sets"].items())
    return {one.folder: one for one in sets}


def _facts(name: str, keys: dict[str, Any], file: dict[str, Any], classes: str) -> SetFacts:
    keys = {key: tuple(value) if isinstance(value, list) else value for key, value in keys.items()}
    instruction = keys.pop("instruction", None) or file["instructions"].get(keys["kind"])
    if instruction is not None:
        keys["instructions"] = dict.fromkeys(("text", "image", "video"), instruction)
    if "listing" in keys:
        keys["listing"] = Listing(**file["listings"][keys["listing"]])
    target = {"document": "document", "clips": "clip"}.get(keys["kind"], "video")
    return SetFacts(name=name, **keys, target=file["targets"][target], classes=tuple(classes.split()))
