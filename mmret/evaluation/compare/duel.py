"""Queries that one of two variants won and the other lost, with what each found, side by side."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from mmret.errors import MMRetError
from mmret.evaluation.benchmark import Benchmark
from mmret.evaluation.compare.comparison import Comparison
from mmret.evaluation.compare.variant import Variant
from mmret.evaluation.gallery import Asked, Shown, asked, first_place, pick, shown_documents
from mmret.evaluation.split import QuerySplit
from mmret.evaluation.trec import read_run

logger = logging.getLogger(__name__)

SHOWN = 12
"""Queries for each benchmark."""
Ranking = Mapping[str, list[tuple[str, float]]]


@dataclass(frozen=True)
class Side:
    """What one variant found."""

    variant: str
    found: tuple[Shown, ...]
    """The first documents, best first."""
    place: int | None
    """Of the first right document; None: not retrieved."""
    depth: int

    @property
    def won(self) -> bool:
        """A right document stands first."""
        return self.place == 1


@dataclass(frozen=True)
class Duel(Asked):
    """One query, and what both found."""

    sides: tuple[Side, Side]

    @property
    def winner(self) -> int:
        """0 or 1."""
        return 0 if self.sides[0].won else 1


def duels(comparison: Comparison, ours: Variant, theirs: Variant, num: int = SHOWN) -> dict[str, list[Duel]]:
    """By "benchmark: title of the split": for each benchmark that both have rankings of, its gallery split.

    The queries that exactly one of the two won, half for each as far as there are such, groups mixed; each variant by
    its first seed. The choice is the same on every call. A benchmark whose files are gone is left out, with a warning.
    """
    found: dict[str, list[Duel]] = {}
    first, second = ours.runs[0], theirs.runs[0]
    for entry in first.benchmarks:
        headline = comparison.headline
        fallback = headline.split if headline.benchmark == entry["prefix"] else None
        name = entry["gallery"] if entry.get("gallery") in entry["splits"] else fallback
        if name is None or name not in entry["splits"]:
            continue
        files = [run.rankings / entry["prefix"] / f"{name}.run" for run in (first, second)]
        if not all(file.is_file() for file in files):
            logger.warning("gallery of %s left out: no rankings of both variants (%s.run)", entry["name"], name)
            continue
        try:
            split = Benchmark.load(entry["source"]).split(name)
            cards = _duels(split, (ours.name, theirs.name), (read_run(files[0]), read_run(files[1])), num)
        except (MMRetError, FileNotFoundError) as error:
            logger.warning("gallery of %s left out: %s", entry["name"], error)
            continue
        if cards:
            found[f"{entry['prefix']}: {split.title}"] = cards
    return found


def disputed(ours: Mapping[str, int | None], theirs: Mapping[str, int | None]) -> dict[str, int | None]:
    """Of the queries that both answered and exactly one won: our place.

    Args:
        ours, theirs: query -> place of its first right document; None: not retrieved.
    """
    return {id: place for id, place in ours.items() if id in theirs and (place == 1) != (theirs[id] == 1)}


def _duels(split: QuerySplit, names: tuple[str, str], runs: tuple[Ranking, Ranking], num: int) -> list[Duel]:
    corpus = split.benchmark.corpus
    relevant = {query.id: {corpus.id(row) for row in query.relevant} for query in split.queries}
    places = [{id: first_place(run[id], relevant[id]) for id in relevant if id in run} for run in runs]
    rows = {query.id: row for row, query in enumerate(split.queries)}
    cards = []
    for id in pick(disputed(*places), {query.id: query.group for query in split.queries}, num):
        ours, theirs = (
            Side(name, shown_documents(split, split.queries[rows[id]], run[id]), place[id], len(run[id]))
            for name, run, place in zip(names, runs, places)
        )
        cards.append(Duel(**vars(asked(split, rows[id])), sides=(ours, theirs)))
    return cards
