"""Retrieval metrics: per-query values of a ranking, and torchmetrics that average them over batches and ranks."""

# Q queries, R places of a ranking (best first)

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from mmret.errors import ConfigError
from mmret.evaluation.chance import best_gain, chance_hit, chance_ndcg, chance_precision, chance_reciprocal_rank
from mmret.evaluation.judged import Judged, Pool
from mmret.evaluation.names import nearest


def recall_at_k(judged: Judged, k: int) -> Tensor:
    """[Q] 1 if any of the first k documents is relevant (hit rate, as in PreFLMR and DPR; trec_eval's `success`).

    Where a query has one relevant document this is trec_eval's recall as well.
    """
    return judged.relevant[:, :k].any(1).double()


def precision_at_k(judged: Judged, k: int) -> Tensor:
    """[Q] share of the first k places that hold a relevant document."""
    return judged.relevant[:, :k].sum(1).double() / k


def mrr(judged: Judged, k: int | None = None) -> Tensor:
    """[Q] 1 / place of the first relevant document, 0 if none is among the first k (None: among those retrieved)."""
    relevant = judged.relevant[:, :k]
    places = torch.arange(1, relevant.shape[1] + 1, device=relevant.device, dtype=torch.float64)
    return (relevant / places).amax(1) if relevant.shape[1] else relevant.sum(1).double()


def ndcg(judged: Judged, k: int) -> Tensor:
    """[Q] discounted gain of the first k places over the best possible one.

    The gain is linear: a relevant document's grade, or 1 where the query has no grades.
    """
    gains = (judged.relevant if judged.gains is None else judged.gains)[:, :k]
    discount = 1 / torch.arange(2, k + 2, device=gains.device, dtype=torch.float64).log2()
    if judged.grades is None:
        best = discount.cumsum(0)[judged.num_relevant.clamp(max=k) - 1]
    else:
        best = best_gain(judged.grades, k)
    return (gains * discount[: gains.shape[1]]).sum(1) / best


def pseudo_recall_at_k(judged: Judged, k: int) -> Tensor:
    """[Q] 1 if any of the first k texts contains an answer (PreFLMR's PR@K); NaN for a query without answers."""
    if judged.answered is None or judged.has_answers is None:
        return torch.full((len(judged),), math.nan, dtype=torch.float64, device=judged.relevant.device)
    return judged.answered[:, :k].any(1).double().masked_fill(~judged.has_answers, math.nan)


class QueryMean(Metric, ABC):
    """Mean of a per-query value over all queries that have one, on all ranks.

    Args:
        k: places looked at; 0: all that were retrieved (for those whose `cut_off` is optional).
    """

    full_state_update = False
    higher_is_better = True
    cut_off: ClassVar[str] = "required"
    """required | optional: whether the name must end in @k."""
    reads_answers: ClassVar[bool] = False
    """Looks for answers in the first k texts."""
    total: Tensor
    count: Tensor

    def __init__(self, k: int = 0):
        super().__init__()
        self.k = k
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    @abstractmethod
    def per_query(self, judged: Judged) -> Tensor:
        """[Q] float64 values; NaN where the query has none."""

    @abstractmethod
    def by_chance(self, pool: Pool) -> Tensor:
        """[Q] float64 values expected of a ranking by lot."""

    def update(self, judged: Judged) -> None:
        """Add queries."""
        values = self.per_query(judged)
        known = ~values.isnan()
        self.total += values[known].sum().to(self.total)
        self.count += known.sum().to(self.count)

    def compute(self) -> Tensor:
        """The mean; NaN if no query had a value."""
        return self.total / self.count


class RecallAtK(QueryMean):
    """Mean of `recall_at_k`."""

    def per_query(self, judged: Judged) -> Tensor:
        """As `recall_at_k`."""
        return recall_at_k(judged, self.k)

    def by_chance(self, pool: Pool) -> Tensor:
        """In closed form."""
        return chance_hit(pool.num_relevant, pool.documents, min(self.k, pool.depth))


class PseudoRecallAtK(QueryMean):
    """Mean of `pseudo_recall_at_k`."""

    reads_answers = True

    def per_query(self, judged: Judged) -> Tensor:
        """As `pseudo_recall_at_k`."""
        return pseudo_recall_at_k(judged, self.k)

    def by_chance(self, pool: Pool) -> Tensor:
        """In closed form."""
        if pool.num_answering is None or pool.has_answers is None:
            return torch.full_like(pool.num_relevant, math.nan, dtype=torch.float64)
        chance = chance_hit(pool.num_answering, pool.documents, min(self.k, pool.depth))
        return chance.masked_fill(~pool.has_answers, math.nan)


class PrecisionAtK(QueryMean):
    """Mean of `precision_at_k`."""

    def per_query(self, judged: Judged) -> Tensor:
        """As `precision_at_k`."""
        return precision_at_k(judged, self.k)

    def by_chance(self, pool: Pool) -> Tensor:
        """In closed form."""
        return chance_precision(pool.num_relevant, pool.documents, self.k)


class NDCG(QueryMean):
    """Mean of `ndcg`."""

    def per_query(self, judged: Judged) -> Tensor:
        """As `ndcg`."""
        return ndcg(judged, self.k)

    def by_chance(self, pool: Pool) -> Tensor:
        """In closed form."""
        return chance_ndcg(pool.num_relevant, pool.documents, self.k, pool.grades)


class MRR(QueryMean):
    """Mean of `mrr`."""

    cut_off = "optional"

    def per_query(self, judged: Judged) -> Tensor:
        """As `mrr`."""
        return mrr(judged, self.k or None)

    def by_chance(self, pool: Pool) -> Tensor:
        """In closed form."""
        return chance_reciprocal_rank(pool.num_relevant, pool.documents, min(self.k or pool.depth, pool.depth))


METRICS: dict[str, type[QueryMean]] = {
    "recall": RecallAtK,
    "pseudo_recall": PseudoRecallAtK,
    "precision": PrecisionAtK,
    "ndcg": NDCG,
    "mrr": MRR,
}


def build_metric(name: str) -> QueryMean:
    """A metric by its name: "recall@5", "pseudo_recall@5", "precision@1", "ndcg@10", "mrr", "mrr@10".

    Raises:
        ConfigError: no such metric, or its cut-off is missing or no whole number above 0.
    """
    stem, at, cut = name.partition("@")
    if stem not in METRICS:
        raise ConfigError(f"unknown metric {name!r} (written like recall@5); {nearest(stem, METRICS)}")
    metric = METRICS[stem]
    if at and not re.fullmatch(r"[1-9]\d*", cut):
        raise ConfigError(f"metric {name!r}: the cut-off must be a whole number above 0, as in {stem}@5")
    if not at and metric.cut_off == "required":
        raise ConfigError(f"metric {name!r} needs a cut-off, as in {stem}@5")
    return metric(int(cut) if at else 0)


def build_metrics(names: Sequence[str]) -> MetricCollection:
    """The metrics by their names, fed with `collection.update(judged)`.

    Raises:
        ConfigError: as `build_metric`.
    """
    # No compute groups: they would share the state of metrics that happen to be equal after the first update.
    return MetricCollection({name: build_metric(name) for name in names}, compute_groups=False)
