"""A row of a table to a sample."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mmret.data.shards import Sample
from mmret.data.sources.picture import Lost, PictureReader
from mmret.data.sources.row_options import Problem, fact
from mmret.data.sources.table.config import TableConfig

_OURS = frozenset(("query", "positives", "negatives"))
"""What our JSON calls its parts; facts of these names would hide them."""


_SHOWN_LIST = re.compile(r"""\[(['"]).*\1,?\]""", re.DOTALL)
"""What str() makes of a list of texts."""


class _LeftOut(Exception):
    """A row of which no sample is made."""

    def __init__(self, problem: Problem):
        super().__init__(problem.text)
        self.problem = problem


class RowReader:
    """Reads rows; threads may share one."""

    def __init__(self, config: TableConfig, pictures: PictureReader):
        self.config, self.pictures = config, pictures
        self.used = frozenset(config.used)
        self.facts = frozenset(config.facts)

    def __call__(self, number: int, place: str, row: Mapping[str, Any]) -> tuple[list[Sample], list[Problem]]:
        """The sample of a row, its key the row's number; or why there is none."""
        try:
            return [self._sample(number, row)], []
        except _LeftOut as left_out:
            return [], [left_out.problem]

    def _sample(self, number: int, row: Mapping[str, Any]) -> Sample:
        members: dict[str, bytes] = {}
        config = self.config
        query = {
            "text": _only(row, config.query_text),
            "instruction": _only(row, config.query_instruction),
            "images": [self._member(value, f"q.{at}", members) for at, value in enumerate(self._images(row))],
        }
        query = {name: value for name, value in query.items() if value}
        if not query.keys() & {"text", "images"}:
            raise _LeftOut(Problem("nothing asks", f"{', '.join(filter(None, self._asking()))}: empty"))
        sides = {
            "positives": self._documents(
                row, "p", members, config.positive_texts, config.positive_images, config.positive_ids
            ),
            "negatives": self._documents(row, "n", members, config.negative_texts, config.negative_images, ()),
        }
        answering = [*config.positive_texts, *config.positive_images]
        if answering and not sides["positives"]:
            raise _LeftOut(Problem("nothing answers", f"{', '.join(answering)}: empty"))
        return Sample(
            f"{number:09d}",
            self._facts(row) | {"query": query} | {name: side for name, side in sides.items() if side},
            members,
        )

    def _asking(self) -> list[str | None]:
        return [self.config.query_text, *self.config.query_images]

    def _images(self, row: Mapping[str, Any]) -> list[Any]:
        return [value for value in values(row, self.config.query_images) if not is_empty(value)]

    def _documents(
        self,
        row: Mapping[str, Any],
        side: str,
        members: dict[str, bytes],
        texts: Sequence[str],
        images: Sequence[str],
        ids: Sequence[str],
    ) -> list[dict[str, Any]]:
        """Documents of a side: their texts, pictures and ids stand at the same places."""
        lists = {
            name: [None if is_empty(value) else value for value in values(row, columns)]
            for name, columns in (("text", texts), ("image", images), ("id", ids))
            if columns
        }
        lengths = {name: len(listed) for name, listed in lists.items()}
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{count} {name}s" for name, count in lengths.items())
            what = {"p": "positives", "n": "negatives"}[side]
            raise _LeftOut(Problem("unequal lists", f"the {what} have {found}; want one of each for each document"))
        documents: dict[str, dict[str, Any]] = {}
        for at in range(max(lengths.values(), default=0)):
            text, image, id = (lists[name][at] if name in lists else None for name in ("text", "image", "id"))
            if text is None and image is None:
                continue
            if isinstance(text, str) and _SHOWN_LIST.fullmatch(text.strip()):
                wanted = 'in a text file, lists are JSON: ["one", "two"]'
                raise _LeftOut(Problem("list as Python shows it", f"{text[:60]}: {wanted}"))
            document = {
                "id": None if id is None else str(id),
                "text": None if text is None else str(text).strip(),
                "images": None if image is None else [self._member(image, f"{side}.{at}", members)],
            }
            document = {name: value for name, value in document.items() if value is not None}
            # A caption said twice is one document, as is an id.
            documents.setdefault(document.get("id") or json.dumps(document, ensure_ascii=False), document)
        return list(documents.values())

    def _member(self, value: Any, name: str, members: dict[str, bytes]) -> str:
        picture = self.pictures(value)
        if isinstance(picture, Lost):
            raise _LeftOut(Problem.of(picture))
        member = f"{name}.{picture.suffix}"
        members[member] = picture.data
        return member

    def _facts(self, row: Mapping[str, Any]) -> dict[str, Any]:
        kept = self.facts or row.keys() - self.used
        facts = {name: fact(value) for name, value in row.items() if name in kept}
        # "query" is a likely name of a column that somebody else filled.
        return {
            f"{name}_column" if name in _OURS else name: value for name, value in facts.items() if value is not None
        }


def values(row: Mapping[str, Any], columns: Sequence[str]) -> list[Any]:
    """The values of some columns one after the other; a list's are several, also of one that a text writes as JSON."""
    found: list[Any] = []
    for name in columns:
        value = row.get(name)
        if isinstance(value, str) and value.lstrip().startswith("["):
            value = _listed(value)
        found += value if isinstance(value, list) else [value]
    return found


def is_empty(value: Any) -> bool:
    """Is there nothing in this cell?"""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    if isinstance(value, dict):
        return value.get("bytes") is None and not value.get("path")
    return isinstance(value, (str, bytes)) and not value.strip()


def _only(row: Mapping[str, Any], column: str | None) -> str | None:
    value = None if column is None else row.get(column)
    return None if is_empty(value) else str(value).strip()


def _listed(text: str) -> Any:
    """The texts of a JSON list; what is none, as "[red] car", is a text."""
    try:
        listed = json.loads(text)
    except ValueError:
        return text
    return listed if isinstance(listed, list) and all(isinstance(one, str) for one in listed) else text
