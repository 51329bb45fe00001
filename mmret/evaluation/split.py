"""One split of a benchmark: its queries, what answers them, and the corpus that they search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmret.data.decode import Decoder
from mmret.data.source import Source
from mmret.data.spec import DataSpec
from mmret.data.table import Table
from mmret.errors import ConfigError, SampleError
from mmret.evaluation.answers import normalize_answer
from mmret.types import Content

if TYPE_CHECKING:
    from mmret.evaluation.benchmark import Benchmark


@dataclass(frozen=True)
class Query:
    """What is known of a query beside its content."""

    id: str
    key: str
    """shard:key, for messages."""
    relevant: tuple[int, ...]
    """Rows of the corpus that answer it."""
    answers: tuple[str, ...]
    """As `normalize_answer` makes them."""
    group: str | None
    picture: str | None
    """What its image shows; None without image."""


class Corpus:
    """The documents that are searched, by row."""

    def __init__(self, spec: DataSpec):
        assert spec.documents is not None
        self.table = Table.open(spec.resolve(spec.documents))
        self._decoder = Decoder(spec, self.table, None)

    def __len__(self) -> int:
        return len(self.table)

    def id(self, row: int) -> str:
        """The document's id."""
        return self.table.id(row)

    def content(self, row: int) -> Content:
        """The document."""
        return self._decoder.row_document(row)

    def text(self, row: int) -> str:
        """Its text; empty for a picture without any."""
        return self.table.row(row, ("text",))["text"] or ""

    def texts(self) -> Iterator[str]:
        """All texts, in order."""
        return (values["text"] or "" for values in self.table.rows(("text",)))

    def lengths(self) -> list[int]:
        """Characters of each text."""
        return [len(text) for text in self.texts()]


class QuerySplit:
    """The queries of one split, in stored order."""

    def __init__(self, benchmark: Benchmark, name: str):
        spec = benchmark.spec.splits[name]
        self.benchmark, self.name, self.group_by = benchmark, name, spec.group_by
        self.title = spec.title or name
        self.source = Source(benchmark.data_spec(spec.shards, f"{benchmark.spec.name}/{name}"))

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.benchmark.file}: split {self.name}"

    def __len__(self) -> int:
        return len(self.source)

    def content(self, row: int) -> Content:
        """What is asked."""
        return self.source.parse(row).query

    @cached_property
    def queries(self) -> list[Query]:
        """All queries; read once, pictures not kept.

        Raises:
            SampleError: a sample is broken, or names a document that the corpus does not have.
            ConfigError: no sample has the field `group_by`.
        """
        queries, asked_ids, grouped = [], [], False
        for row in range(len(self)):
            sample = self.source.parse(row)
            grouped = grouped or self.group_by in sample.meta
            asked_ids.append(sample.meta.get("question_id"))
            group = None if self.group_by is None else sample.meta.get(self.group_by)
            queries.append(
                Query(
                    sample.name.rpartition(":")[2],
                    sample.name,
                    tuple(self._relevant(sample.name, reference) for reference in sample.positives),
                    _answers(sample.name, sample.meta.get("answers")),
                    None if group is None else str(group),
                    self._picture(sample.query, sample.meta),
                )
            )
        if self.group_by is not None and not grouped:
            raise ConfigError(f"{self.where}: group_by is {self.group_by!r}, but no sample has such a field")
        if None not in asked_ids and len({str(id) for id in asked_ids}) == len(asked_ids):
            queries = [replace(query, id=str(id)) for id, query in zip(asked_ids, queries)]
        return queries

    @property
    def pictures(self) -> list[str | None]:
        """What each query's image shows."""
        return [query.picture for query in self.queries]

    @property
    def answers(self) -> list[tuple[str, ...]]:
        """Each query's answers."""
        return [query.answers for query in self.queries]

    @cached_property
    def has_answers(self) -> Tensor:
        """[Q] bool."""
        return torch.tensor([bool(query.answers) for query in self.queries])

    @cached_property
    def num_relevant(self) -> Tensor:
        """[Q] int64, >= 1."""
        return torch.tensor([len(set(query.relevant)) for query in self.queries])

    def _relevant(self, name: str, reference: Any) -> int:
        id = reference.get("id") if isinstance(reference, dict) else reference
        row = self.benchmark.corpus.table.find(id) if isinstance(id, str) else None
        if row is None:
            table = self.benchmark.corpus.table.path
            raise SampleError(f"{name}: positives names document {id!r}, which the corpus {table} does not have")
        return row

    def _picture(self, query: Content, meta: dict[str, Any]) -> str | None:
        if not query.images:
            return None
        shown = meta.get(self.benchmark.spec.image_group)
        return b"".join(image.key for image in query.images).hex() if shown is None else str(shown)


def _answers(name: str, answers: Any) -> tuple[str, ...]:
    if answers is None:
        return ()
    listed = [answers] if isinstance(answers, str) else answers
    if not isinstance(listed, list) or not all(isinstance(answer, str) for answer in listed):
        raise SampleError(f"{name}: answers is {answers!r}; want a text or a list of texts")
    # An empty answer would be found in every text.
    return tuple(dict.fromkeys(filter(None, map(normalize_answer, listed))))
