"""Answers in texts: the string rule of pseudo-recall (PreFLMR's PR@K)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor


def normalize_answer(answer: str) -> str:
    """Lower-cased and stripped; the texts are lower-cased only."""
    return answer.lower().strip()


def find_answers(answers: Sequence[Sequence[str]], rows: Tensor, text: Callable[[int], str]) -> Tensor:
    """Whether a text contains any of its query's answers as a plain substring, word borders ignored.

    Args:
        answers: per query, normalised and not empty.
        rows: [Q, R] documents looked at.
        text: row -> text of the document.

    Returns:
        [Q, R] bool.
    """
    lowered: dict[int, str] = {}
    found = torch.zeros(rows.shape, dtype=torch.bool)
    for query, (wanted, places) in enumerate(zip(answers, rows.tolist())):
        if not wanted:
            continue
        for place, row in enumerate(places):
            if row not in lowered:
                lowered[row] = text(row).lower()
            found[query, place] = any(answer in lowered[row] for answer in wanted)
    return found


def count_answering(answers: Sequence[Sequence[str]], texts: Iterable[str]) -> Tensor:
    """[Q] int64: texts of the whole corpus that contain any of the query's answers."""
    lowered = [text.lower() for text in texts]
    starts = np.cumsum([0, *(len(text) + 1 for text in lowered)])
    joined = "\0".join(lowered)
    found: dict[str, np.ndarray] = {}
    counts = []
    for wanted in answers:
        for answer in wanted:
            if answer not in found:
                found[answer] = _documents_with(answer, joined, starts)
        counts.append(len(np.unique(np.concatenate([found[answer] for answer in wanted]))) if wanted else 0)
    return torch.tensor(counts, dtype=torch.int64)


def _documents_with(answer: str, joined: str, starts: np.ndarray) -> np.ndarray:
    """Searching one long string is a hundred times quicker than a Python loop over texts."""
    documents = []
    place = joined.find(answer)
    while place >= 0:
        document = int(starts.searchsorted(place, side="right")) - 1
        documents.append(document)
        place = joined.find(answer, int(starts[document + 1]))
    return np.array(documents, dtype=np.int64)
