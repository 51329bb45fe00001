"""Mining: encode a source's documents and queries, search, choose. With several ranks they share the work."""

# Q queries, N documents, k found for each query

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmret.evaluation.encode import Settings, encode, encode_all_queries, evaluating
from mmret.evaluation.mining.corpus import Mineable
from mmret.evaluation.mining.rules import MiningRules, choose
from mmret.evaluation.rerank import Reranker
from mmret.index import rank_lists, search
from mmret.models.retriever import Retriever
from mmret.types import Embeddings

logger = logging.getLogger(__name__)


@dataclass
class Mined:
    """Negatives of each query, and what became of all documents found."""

    data: Mineable
    rules: MiningRules
    rows: list[list[int]] = field(default_factory=list)
    """[Q] rows of the negatives, best first."""
    scores: list[list[float]] = field(default_factory=list)
    positives: list[float] = field(default_factory=list)
    """[Q] lowest score of its positives."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason (`rules.DROPPED`) -> documents."""
    found: int = 0
    """Documents found for all queries."""

    @property
    def gaps(self) -> Tensor:
        """Of each negative: how much less than the positive it scores, float32."""
        values = [positive - score for positive, own in zip(self.positives, self.scores) for score in own]
        return torch.tensor(values)


def mine(
    model: Retriever,
    data: Mineable,
    rules: MiningRules,
    settings: Settings | None = None,
    reranker: Reranker | None = None,
) -> Mined:
    """Find negatives for each query; the same on every rank, and whatever the batch size or number of ranks.

    Args:
        reranker: its matching head scores the documents found, and the positives, once more; all rules then are about
            these scores.
    """
    settings = settings or Settings()
    scores, rows, positives = _search(model, data, rules.k, settings)
    if reranker is not None:
        scores, rows, positives = _rerank(data, reranker, scores, rows, positives)
    lowest = positives.masked_fill(positives == -torch.inf, torch.inf).amin(1).tolist()
    mined = Mined(data, rules, positives=lowest, found=rows.numel())
    columns = zip(data.asked, rows.tolist(), scores.tolist(), lowest)
    for asked, own_rows, own_scores, positive in settings.track(columns, "choose negatives", len(data.asked)):
        place = (data.source.name, asked.index)
        choice = choose(rules, own_rows, own_scores, positive, lambda row, asked=asked: data.known(asked, row), place)
        mined.rows.append(choice.rows)
        mined.scores.append(choice.scores)
        mined.dropped += choice.dropped
    return mined


def _search(model: Retriever, data: Mineable, k: int, settings: Settings) -> tuple[Tensor, Tensor, Tensor]:
    """Scores and rows [Q, k] of what is found, best first; scores [Q, P] of the positives, falling, then -inf."""
    options = {"batch_size": settings.batch_size, "num_workers": settings.num_workers, "track": settings.track}
    with evaluating(model, settings.device):
        queries = encode_all_queries(model, data.query, len(data.asked), **options)
        # Neighbours of like length pad each other little.
        order = sorted(range(len(data)), key=data.lengths().__getitem__)
        numbers: list[Tensor] = []
        parts: list[Embeddings] = []
        for searched in (True, False):
            chosen = [row for row in order if (row < data.num_searched) == searched and row not in data.unreadable]
            for batch, part in encode(model, data.document, chosen, "document", **options):
                numbers.append(batch)
                parts.append(part.to("cpu"))
            if searched:
                scores, rows = search(model, queries, tuple(parts), k, rows=_joined(numbers))
        lists = [torch.tensor(asked.positives) for asked in data.asked]
        longest = max(map(len, lists))
        positives, _ = rank_lists(model, queries, parts, _joined(numbers), lists, longest)
    return scores, rows, positives


def _rerank(
    data: Mineable, reranker: Reranker, scores: Tensor, rows: Tensor, positives: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same three by the matching head, what was found sorted anew."""
    # The head's score alone is used, so that of the dual encoder need not stand beside a pair.
    own = [(query, row) for query, asked in enumerate(data.asked) for row in asked.positives]
    found = [(query, row) for query, line in enumerate(rows.tolist()) for row in line]
    pairs = torch.tensor(own + found)
    matching = reranker.matching(data.query, data.document, pairs, torch.zeros(len(pairs)))
    again = torch.full_like(positives, -torch.inf)
    counts = [len(asked.positives) for asked in data.asked]
    for query, values in enumerate(matching[: len(own)].split(counts)):
        again[query, : len(values)] = values
    best, order = matching[len(own) :].view_as(scores).sort(dim=1, descending=True, stable=True)
    return best, rows.gather(1, order), again


def _joined(numbers: list[Tensor]) -> Tensor:
    return torch.cat([torch.zeros(0, dtype=torch.int64), *numbers])
