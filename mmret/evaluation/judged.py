"""What a metric needs to know of rankings: which places are right, out of how many."""

# Q queries, R places of a ranking (best first)

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Judged:
    """What the metrics need to know of Q rankings."""

    relevant: Tensor
    """[Q, R] bool: the document at this place answers the query."""
    num_relevant: Tensor
    """[Q] int64: documents of the whole corpus that do, >= 1."""
    answered: Tensor | None = None
    """[Q, R'] bool: the text at this place contains an answer; None: no query has answers."""
    has_answers: Tensor | None = None
    """[Q] bool: the query has answers to look for."""
    gains: Tensor | None = None
    """[Q, R] float64: grade of the document at this place; None: all relevant documents are worth 1."""
    grades: Tensor | None = None
    """[Q, G] float64: grades of all documents that answer the query, falling, then 0; goes with `gains`."""

    def __len__(self) -> int:
        return len(self.relevant)

    def select(self, rows: Tensor | slice) -> Judged:
        """The given queries."""
        return Judged(
            self.relevant[rows],
            self.num_relevant[rows],
            None if self.answered is None else self.answered[rows],
            None if self.has_answers is None else self.has_answers[rows],
            None if self.gains is None else self.gains[rows],
            None if self.grades is None else self.grades[rows],
        )

    def to(self, device: torch.device | str) -> Judged:
        """All tensors on `device`."""
        return Judged(
            self.relevant.to(device),
            self.num_relevant.to(device),
            None if self.answered is None else self.answered.to(device),
            None if self.has_answers is None else self.has_answers.to(device),
            None if self.gains is None else self.gains.to(device),
            None if self.grades is None else self.grades.to(device),
        )


@dataclass(frozen=True)
class Pool:
    """What a ranking by lot is drawn from, for Q queries."""

    documents: int
    """Documents that each of these queries ranks."""
    depth: int
    """Places retrieved."""
    num_relevant: Tensor
    """[Q] int64: documents that answer the query, >= 1."""
    num_answering: Tensor | None = None
    """[Q] int64: documents whose text contains an answer; None: no query has answers."""
    has_answers: Tensor | None = None
    """[Q] bool: the query has answers to look for."""
    grades: Tensor | None = None
    """[Q, G] float64: grades of the documents that answer the query, falling, then 0; None: each is worth 1."""
