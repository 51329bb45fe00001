"""Rows of video tables to queries and their candidates: one reader for each kind of set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import PurePosixPath
from typing import Any

from mmret.data.sources.mmeb_v2.frames import FrameFolders
from mmret.data.sources.mmeb_v2.table import SetTable
from mmret.errors import SampleError

MISSING = "frames, picture or document missing or broken"
"""Why a row is left out where that is allowed."""
_EMPTY = "a value is empty"
_NO_ANSWER = "none of its options is the answer"


@dataclass(frozen=True)
class Item:
    """A query or a document."""

    text: str
    video: str = ""
    """Its folder of frames; empty: none."""
    image: str = ""
    """Its picture beside the videos; empty: none."""

    @property
    def id(self) -> str:
        """Equal for equal content."""
        return blake2b(f"{self.image}\0{self.video}\0{self.text}".encode(), digest_size=10).hexdigest()


@dataclass(frozen=True)
class Ranking:
    """A query and what answers it."""

    query: Item
    right: list[Item]
    candidates: list[Item]
    """What it ranks, the right ones among them, each once; where all search one corpus: what it adds to that."""


@dataclass(frozen=True)
class LeftOut:
    """A row that gives no query."""

    reason: str
    text: str
    missing: bool = False
    """For want of files: only where that is allowed."""


class Reader:
    """A set's rows."""

    def __init__(self, table: SetTable, frames: FrameFolders, limit: int | None):
        self.table, self.facts, self.frames, self.limit = table, table.facts, frames, limit

    def __iter__(self) -> Iterator[Ranking | LeftOut]:
        """Rows in order.

        Raises:
            ConfigError: the table lacks a column.
            SampleError: a value is of another kind than published.
        """
        read: Callable[[str, str, dict[str, Any]], Ranking | LeftOut] = {
            "classify": self._classify,
            "answer": self._answer,
            "find": self._find,
            "moment": self._moment,
            "clips": self._clips,
        }[self.facts.kind]
        for place, subset, row in self.table.rows(self.limit):
            empty = [name for name in self.facts.columns if self._lacks(row.get(name), name)]
            if empty:
                yield LeftOut(_EMPTY, f"{place}: {empty[0]}")
                continue
            try:
                yield read(place, subset, row)
            except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
                raise SampleError(
                    f"{place}: not as published for {self.facts.name} ({error!r}): {str(row)[:200]}"
                ) from error

    def fixed(self) -> list[Item]:
        """Documents that belong to the corpus whatever the rows say."""
        return [Item(name) for name in self.facts.classes] if not self.facts.own_candidates else []

    def _lacks(self, value: Any, column: str) -> bool:
        # A moment may be asked for by text alone, and have no wrong clips.
        optional = self.facts.kind == "clips" and column != self.facts.text
        return not optional and value in (None, "", [])

    def _video(self, row: dict[str, Any], subset: str = "") -> str:
        name = str(row[self.facts.video])
        name = PurePosixPath(name).stem if self.facts.stem else name
        return f"{subset}/{self.facts.prefix}{name}" if subset else f"{self.facts.prefix}{name}"

    def _text(self, row: dict[str, Any]) -> str:
        """The text that is asked; of several captions the first."""
        text = row[self.facts.text]
        return text[0] if isinstance(text, list) else text

    def _classify(self, place: str, subset: str, row: dict[str, Any]) -> Ranking | LeftOut:
        facts, right = self.facts, Item(self._text(row))
        own = [Item(name) for name in dict.fromkeys(row[facts.options[0]])] if facts.options else [right]
        if right not in own:
            return LeftOut(_NO_ANSWER, f"{place}: {right.text!r}")
        return Ranking(Item(facts.query("", video=True), self._video(row)), [right], own)

    def _answer(self, place: str, subset: str, row: dict[str, Any]) -> Ranking | LeftOut:
        facts, listing = self.facts, self.facts.listing
        assert listing is not None
        columns = [row[name] for name in facts.options]
        options = [str(one) for one in (list(facts.choices) or (columns[0] if len(columns) == 1 else columns))]
        number = _answer_number(facts.answer, row["answer"], options)
        if number is None:
            return LeftOut(_NO_ANSWER, f"{place}: {row['answer']!r}")
        shown = listing.options(options)
        texts = {"plain": options, "listed": shown, "bare": [_bare(one) for one in options]}[facts.candidates]
        asked = facts.query(listing(self._text(row), options), video=True)
        items = [Item(text) for text in texts]
        return Ranking(Item(asked, self._video(row, subset)), [items[number]], list(dict.fromkeys(items)))

    def _find(self, place: str, subset: str, row: dict[str, Any]) -> Ranking | LeftOut:
        right = Item(self.facts.document, self._video(row))
        return Ranking(Item(self.facts.query(self._text(row))), [right], [right])

    def _moment(self, place: str, subset: str, row: dict[str, Any]) -> Ranking | LeftOut:
        video = self._video(row)
        clips = self.frames.clips(video)
        items = {clip: Item(self.facts.document, clip) for clip in clips}
        right = [item for clip, item in items.items() if clip.rpartition("/")[2].startswith("positive")]
        if not right:
            what = f"of {len(clips)} clips none is called positive..." if clips else "no clips"
            return LeftOut(MISSING, f"{place}: {what} of video {video!r} in {self.frames.tried}", missing=True)
        query = Item(self.facts.query(self._text(row), video=True), f"{video}/query")
        return Ranking(query, right, list(items.values()))

    def _clips(self, place: str, subset: str, row: dict[str, Any]) -> Ranking | LeftOut:
        facts, asked = self.facts, row.get(self.facts.video) or ""
        video, image = asked.endswith(".mp4"), asked.endswith(".jpg")
        right, others = (
            [Item(facts.document, _clip(one["output_path"])) for one in row.get(name) or ()] for name in facts.options
        )
        if not right:
            return LeftOut(_EMPTY, f"{place}: {facts.options[0]}")
        text = facts.query(self._text(row), image, video)
        query = Item(text, _clip(asked) if video else "", f"query_{asked}" if image else "")
        return Ranking(query, list(dict.fromkeys(right)), list(dict.fromkeys([*right, *others])))


def _answer_number(kind: str, answer: Any, options: list[str]) -> int | None:
    if kind == "text":
        return options.index(answer) if answer in options else None
    number = int(answer) if kind == "number" else ord(answer.strip()) - ord("A")
    return number if 0 <= number < len(options) else None


def _bare(option: str) -> str:
    """ "B. A dog." -> "A dog"."""
    # The reference keeps but the last character of an option without ". ", which can only be an oversight.
    return option[max(option.find(". "), 0) :].strip(". ")


def _clip(path: str) -> str:
    return "video_frames/" + path.split(".mp4")[0].replace("/", "_")
