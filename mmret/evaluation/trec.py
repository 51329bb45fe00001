"""TREC run and qrels files: the exchange format in which anyone can score our rankings again."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np

from mmret.errors import SampleError


def write_run(
    path: Path, queries: Sequence[str], documents: Sequence[Sequence[str]], scores: Sequence[Sequence[float]], tag: str
) -> None:
    """Write `query Q0 document place score tag` lines, best first.

    Scores are written as float32 and lowered by single steps of it where they would tie: trec_eval orders by score and
    breaks ties by document id, which would not be our order.

    Args:
        queries: Q ids.
        documents: for each query its document ids, best first.
        scores: in falling order.
        tag: last column, no whitespace.
    """
    lines = []
    for query, ids, values in zip(queries, documents, scores):
        previous = np.float32(np.inf)
        for place, (id, value) in enumerate(zip(ids, values), 1):
            previous = min(np.float32(value), np.nextafter(previous, np.float32(-np.inf)))
            lines.append(f"{_escape(query)} Q0 {_escape(id)} {place} {previous:.9g} {tag}\n")
    _write(path, lines)


def write_qrels(
    path: Path,
    queries: Sequence[str],
    relevant: Sequence[Sequence[str]],
    grades: Sequence[Sequence[float]] | None = None,
) -> None:
    """Write `query 0 document grade` lines; without `grades`, or where a query has none, the grade is 1."""
    lines = []
    for number, (query, ids) in enumerate(zip(queries, relevant)):
        worth = grades[number] if grades else ()
        for id, grade in zip(ids, worth or [1] * len(ids)):
            lines.append(f"{_escape(query)} 0 {_escape(id)} {grade:g}\n")
    _write(path, lines)


def read_run(path: Path) -> dict[str, list[tuple[str, float]]]:
    """Per query its (document id, score) in order of the file.

    Raises:
        SampleError: a line has not six columns.
    """
    rankings: dict[str, list[tuple[str, float]]] = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        columns = line.split()
        if len(columns) != 6:
            raise SampleError(f"{path}:{number}: {len(columns)} columns, want 6 (query Q0 document place score tag)")
        rankings.setdefault(unquote(columns[0]), []).append((unquote(columns[2]), float(columns[4])))
    return rankings


def read_qrels(path: Path) -> Mapping[str, set[str]]:
    """Per query the ids of its relevant documents."""
    relevant: dict[str, set[str]] = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        columns = line.split()
        if len(columns) != 4:
            raise SampleError(f"{path}:{number}: {len(columns)} columns, want 4 (query 0 document relevance)")
        if float(columns[3]) > 0:
            relevant.setdefault(unquote(columns[0]), set()).add(unquote(columns[2]))
    return relevant


def _escape(id: str) -> str:
    """Whitespace parts columns, so it is percent-encoded, and with it the percent sign; all else stays readable."""
    return re.sub(r"[\s%\x00-\x1f\x7f-\x9f]", lambda match: quote(match.group(), safe=""), id)


def _write(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text("".join(lines), "utf-8")
    part.replace(path)
