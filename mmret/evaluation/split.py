"""One split of a benchmark: its queries, what answers them, and the corpus that they search."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmret.data.classes import Target
from mmret.data.decode import Decoder, Parsed, no_positives
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
    """Rows of the corpus that answer it, each once."""
    answers: tuple[str, ...]
    """As `normalize_answer` makes them."""
    group: str | None
    picture: str | None
    """What its image shows; None without image."""
    target: Target | None = None
    """Classes that answer it; None: not known, or no classification."""
    grades: tuple[float, ...] | None = None
    """How much each of `relevant` is worth, where the sample says so; None: all the same."""
    candidates: Tensor | None = field(default=None, compare=False)
    """[C] int32 rows of the corpus that it ranks, rising; None: all."""


class Corpus:
    """The documents that are searched, by row."""

    def __init__(self, spec: DataSpec):
        assert spec.documents is not None
        self.table = Table.open(spec.resolve(spec.documents))
        self._decoder = Decoder(spec, self.table, None)

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Id -> row, for looking up long lists of candidates."""
        return {id: row for row, id in enumerate(self.table.ids())}

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
        self.source = Source(benchmark.data_spec(spec.shards, f"{benchmark.spec.name}/{name}", spec.images))

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
            relevant, grades = self._all_relevant(sample)
            group = None if self.group_by is None else sample.meta.get(self.group_by)
            queries.append(
                Query(
                    sample.name.rpartition(":")[2],
                    sample.name,
                    relevant,
                    _answers(sample.name, sample.meta.get("answers")),
                    None if group is None else str(group),
                    self._picture(sample.query, sample.meta),
                    self.source.target(sample) if self.benchmark.classifies else None,
                    grades,
                    self._candidates(sample, relevant) if self.benchmark.own_candidates else None,
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

    @cached_property
    def grades(self) -> Tensor | None:
        """[Q, G] float64 grades of the relevant documents in falling order, 0 behind them; None: no query has any."""
        if all(query.grades is None for query in self.queries):
            return None
        listed = [torch.tensor(query.grades or [1.0] * len(query.relevant)) for query in self.queries]
        return torch.nn.utils.rnn.pad_sequence([one.double().sort(descending=True).values for one in listed], True)

    @cached_property
    def num_documents(self) -> Tensor:
        """[Q] int64: documents that each query ranks."""
        everything = len(self.benchmark.corpus)
        lists = (query.candidates for query in self.queries)
        return torch.tensor([everything if rows is None else len(rows) for rows in lists])

    def _all_relevant(self, sample: Parsed) -> tuple[tuple[int, ...], tuple[float, ...] | None]:
        """Rows that answer the sample and, where it says so, their grades."""
        if self.benchmark.classifies:
            return (), None
        graded = sample.meta.get("relevance")
        if graded is None:
            if not sample.positives:
                raise no_positives(sample.name)
            found = (self._relevant(sample.name, "positives", reference) for reference in sample.positives)
            return tuple(dict.fromkeys(found)), None
        if not isinstance(graded, dict) or not all(_is_grade(grade) for grade in graded.values()):
            raise SampleError(f"{sample.name}: relevance is {graded!r}; want {{document id: number, 0 or more}}")
        worth = {id: float(grade) for id, grade in graded.items() if grade > 0}
        if not worth:
            raise SampleError(f"{sample.name}: relevance grades no document above 0")
        return tuple(self._relevant(sample.name, "relevance", id) for id in worth), tuple(worth.values())

    def _candidates(self, sample: Parsed, relevant: tuple[int, ...]) -> Tensor:
        listed, numbers = sample.meta.get("candidates"), self.benchmark.corpus.numbers
        if not isinstance(listed, list) or not listed:
            raise SampleError(
                f"{sample.name}: no list of candidates, but {self.benchmark.file} says that queries bring their own"
            )
        unknown = next((id for id in listed if id not in numbers), None)
        if unknown is not None:
            table = self.benchmark.corpus.table.path
            raise SampleError(f"{sample.name}: candidates names document {unknown!r}, which {table} does not have")
        rows = {numbers[id] for id in listed}
        lacking = [row for row in relevant if row not in rows]
        if lacking:
            id = self.benchmark.corpus.id(lacking[0])
            raise SampleError(f"{sample.name}: document {id!r} answers it, but is none of its {len(rows)} candidates")
        return torch.tensor(sorted(rows), dtype=torch.int32)

    def _relevant(self, name: str, field: str, reference: Any) -> int:
        id = reference.get("id") if isinstance(reference, dict) else reference
        row = self.benchmark.corpus.table.find(id) if isinstance(id, str) else None
        if row is None:
            table = self.benchmark.corpus.table.path
            raise SampleError(f"{name}: {field} names document {id!r}, which the corpus {table} does not have")
        return row

    def _picture(self, query: Content, meta: dict[str, Any]) -> str | None:
        if not query.images:
            return None
        shown = meta.get(self.benchmark.spec.image_group)
        return b"".join(image.key for image in query.images).hex() if shown is None else str(shown)


def _is_grade(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def _answers(name: str, answers: Any) -> tuple[str, ...]:
    if answers is None:
        return ()
    listed = [answers] if isinstance(answers, str) else answers
    if not isinstance(listed, list) or not all(isinstance(answer, str) for answer in listed):
        raise SampleError(f"{name}: answers is {answers!r}; want a text or a list of texts")
    # An empty answer would be found in every text.
    return tuple(dict.fromkeys(filter(None, map(normalize_answer, listed))))
