"""Rankings against what is known to be right: per-query values, and means over queries, groups and ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmret.evaluation.answers import find_answers
from mmret.evaluation.judged import Judged, Pool
from mmret.evaluation.metrics import build_metric, build_metrics
from mmret.evaluation.split import QuerySplit
from mmret.ops import rank_and_world


def judge(split: QuerySplit, rows: Tensor) -> Judged:
    """Which places of the rankings `rows` [Q, R] are right; -1 is an empty place."""
    relevant = torch.zeros(rows.shape, dtype=torch.bool)
    gains = None if split.grades is None else torch.zeros(rows.shape, dtype=torch.float64)
    for number, (query, places) in enumerate(zip(split.queries, rows.tolist())):
        worth = dict(zip(query.relevant, query.grades or [1.0] * len(query.relevant)))
        relevant[number] = torch.tensor([row in worth for row in places])
        if gains is not None:
            gains[number] = torch.tensor([worth.get(row, 0.0) for row in places])
    graded = {"gains": gains, "grades": split.grades}
    depth = split.benchmark.answer_depth
    if not (depth and split.has_answers.any()):
        return Judged(relevant, split.num_relevant, **graded)
    answered = find_answers(split.answers, rows[:, :depth], split.benchmark.corpus.text)
    return Judged(relevant, split.num_relevant, answered, split.has_answers, **graded)


def first_places(judged: Judged) -> Tensor:
    """[Q] place of the first relevant document, from 1; 0: not among those retrieved."""
    return torch.where(judged.relevant.any(1), judged.relevant.int().argmax(1) + 1, 0)


def per_query(names: Sequence[str], judged: Judged) -> dict[str, Tensor]:
    """Metric -> [Q] float64; NaN where a query has no value."""
    return {name: build_metric(name).per_query(judged) for name in names}


def expected(names: Sequence[str], pool: Pool) -> dict[str, Tensor]:
    """Metric -> [Q] float64: what a ranking by lot scores on average."""
    return {name: build_metric(name).by_chance(pool) for name in names}


def means(split: QuerySplit, judged: Judged, device: torch.device, groups: bool) -> dict[str, float]:
    """Means over all queries and, if wanted, of each group ("topic=capital/recall@1").

    With several ranks each adds its share of the queries, and torchmetrics sums up.

    Args:
        device: where the ranks can talk.
    """
    rank, world = rank_and_world()
    mine = torch.arange(rank, len(judged), world)
    members = {"": mine}
    if groups and split.group_by:
        labels = [query.group for query in split.queries]
        for label in sorted({label for label in labels if label is not None}):
            inside = torch.tensor([labels[row] == label for row in mine.tolist()], dtype=torch.bool)
            members[f"{split.group_by}={label}/"] = mine[inside]
    found = {}
    for group, rows in members.items():
        collection = build_metrics(split.benchmark.spec.metrics).to(device)
        collection.update(judged.select(rows).to(device))
        values = collection.compute()
        for name in split.benchmark.spec.metrics:  # in their order; torchmetrics sorts them
            if not values[name].isnan():  # pseudo-recall where no query has answers
                found[group + name] = float(values[name])
    return found
