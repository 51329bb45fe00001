"""Rows of MMEB's tables to samples, and the pictures and candidates that they name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Any

from mmret.data.sources.mmeb.prompt import PLACEHOLDER, Kind
from mmret.data.sources.parquet import ParquetSplit
from mmret.errors import ConfigError, SampleError

TRAIN = ("qry", "qry_image_path", "pos_text", "pos_image_path", "neg_text", "neg_image_path")
TEST = ("qry_inst", "qry_text", "qry_img_path", "tgt_inst", "tgt_text", "tgt_img_path")
_NEEDED = {TRAIN: TRAIN[:4], TEST: ("qry_text", "qry_img_path", "tgt_text", "tgt_img_path")}


@dataclass(frozen=True)
class Side:
    """A query or a document."""

    text: str
    image: str
    """Path of its picture; empty: none."""

    @property
    def id(self) -> str:
        """Equal for equal content."""
        return blake2b(f"{self.image}\0{self.text}".encode(), digest_size=10).hexdigest()

    def json(self) -> dict[str, Any]:
        """As a sample names it; the picture lies in the images table."""
        return ({"text": self.text} if self.text else {}) | ({"images": [self.image]} if self.image else {})


@dataclass(frozen=True)
class TrainRow:
    """A row of a training table."""

    query: Side
    positive: Side
    negatives: list[Side]

    @property
    def images(self) -> list[str]:
        """All pictures of the row."""
        return [side.image for side in (self.query, self.positive, *self.negatives) if side.image]


@dataclass(frozen=True)
class RankingRow:
    """A row of an evaluation table."""

    query: Side
    candidates: list[Side]
    """Each once; the first is right."""


def train_rows(table: ParquetSplit, limit: int | None, plain: bool) -> Iterator[TrainRow | str]:
    """Rows in order, or what is wrong with one. Strings stand as they are in the table.

    Args:
        plain: without instructions: what all rows of the table begin with goes, up to the last white space.

    Raises:
        ConfigError: the table lacks a column.
    """
    _check(table, TRAIN)
    cut = {name: _shared_start(table, name) if plain else "" for name in ("qry", "pos_text")}
    for number, row in enumerate(islice(table.rows(TRAIN), limit)):
        query = Side(_without(row["qry"] or "", cut["qry"]), row["qry_image_path"] or "")
        image = row["pos_image_path"] or ""
        # Texts that are searched carry no instruction.
        positive = Side(_without(row["pos_text"] or "", cut["pos_text"] if image else ""), image)
        texts, images = _listed(row.get("neg_text")), _listed(row.get("neg_image_path"))
        length = max(len(texts), len(images))
        pairs = zip(texts + [""] * (length - len(texts)), images + [""] * (length - len(images)))
        negatives = [Side(_without(text, cut["pos_text"] if path else ""), path) for text, path in pairs]
        if not (query.text or query.image) or not (positive.text or positive.image):
            yield f"row {number} has an empty {'query' if positive.text or positive.image else 'positive'}"
        else:
            yield TrainRow(query, positive, [one for one in negatives if one.text or one.image])


def ranking_rows(table: ParquetSplit, kind: Kind, limit: int | None, plain: bool) -> Iterator[RankingRow]:
    """Rows in order, their strings composed; as they are where the table has no instructions apart (version 1's).

    Raises:
        ConfigError: the table lacks a column.
        SampleError: a row has no candidates, or lists of unequal length.
    """
    _check(table, TEST)
    whole = "qry_inst" not in table.columns
    for number, row in enumerate(islice(table.rows(TEST), limit)):
        texts, images = list(row["tgt_text"] or ()), list(row["tgt_img_path"] or ())
        images = images or [""] * len(texts)
        texts = [text or "" for text in texts or [""] * len(images)]
        if not texts or len(texts) != len(images):
            raise SampleError(
                f"{table.name}: row {number} has {len(texts)} tgt_text and {len(images)} tgt_img_path; want one of each"
            )
        asked, instruction, wanted = row["qry_text"] or "", row.get("qry_inst") or "", row.get("tgt_inst") or ""
        if plain:
            asked = _plain(asked, bool(row["qry_img_path"]))
            texts = [_plain(text, True) if path else text for text, path in zip(texts, images)]
        elif not whole:
            asked, texts = kind.query(instruction, asked), kind.candidates(wanted, texts)
        sides = dict.fromkeys(Side(text, path or "") for text, path in zip(texts, images))
        yield RankingRow(Side(asked, row["qry_img_path"] or ""), list(sides))


def _check(table: ParquetSplit, columns: tuple[str, ...]) -> None:
    missing = [name for name in _NEEDED[columns] if name not in table.columns]
    if missing:
        raise ConfigError(
            f"{table.files[0]}: no column {', '.join(missing)}; an MMEB table has {', '.join(columns)} "
            f"(this one: {', '.join(table.columns)})"
        )


def _listed(value: str | list[str] | None) -> list[str]:
    listed = [value] if isinstance(value, str) else list(value or ())
    return [one or "" for one in listed]


def _shared_start(table: ParquetSplit, column: str) -> str:
    """What all texts of a column begin with, up to the last white space; all of it where they are equal."""
    texts: Iterable[str] = (row[column] or "" for row in table.rows((column,)))
    first, equal = next(iter(texts), ""), True
    shared = first
    for text in texts:
        equal = equal and text == first
        if not text.startswith(shared):
            shared = shared[: next((at for at, (a, b) in enumerate(zip(shared, text)) if a != b), len(text))]
    if equal:
        return shared
    return shared[: max(shared.rfind(blank) + 1 for blank in " \n\t")]


def _without(text: str, start: str) -> str:
    return _plain(text[len(start) :], PLACEHOLDER in start) if start else text


def _plain(text: str, picture: bool) -> str:
    """A text without instruction, below its picture."""
    return f"{PLACEHOLDER}\n{text.lstrip()}" if picture else text.lstrip()
