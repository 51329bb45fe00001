"""Which of the documents found for a query become its negatives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mmret.data.dice import Dice
from mmret.errors import ConfigError

SAMPLING = ("top", "random")
DROPPED = ("positive_id", "positive_content", "range", "min_score", "max_score", "margin", "ratio", "surplus")
"""Why a document that was found is no negative, in the order in which rules are asked: each counts once."""


@dataclass(frozen=True)
class MiningRules:
    """The rules of sentence-transformers' `mine_hard_negatives`. Where a query has several positives, the lowest of
    their scores counts: a negative is then below each of them."""

    k: int = 100
    """Documents searched for each query."""
    negatives: int = 10
    """Most negatives kept of each query."""
    margin: float | None = None
    """A negative scores at least so much less than the positive."""
    ratio: float | None = None
    """A negative scores at most so much of the positive (NV-Retriever, Moreira et al. 2024, Sec. 3: 0.95)."""
    ranks: tuple[int, int] | None = None
    """First rank, from 0, and the rank after the last, counted without known positives."""
    max_score: float | None = None
    min_score: float | None = None
    sampling: str = "top"
    """top: the best of those left; random: any of them, drawn by the sample's place in the source."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("k", "negatives"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name} must be at least 1, got {getattr(self, name)}")
        if self.margin is not None and self.margin < 0:
            raise ConfigError(f"--margin must be at least 0, got {self.margin:g}")
        if self.ratio is not None and not 0 < self.ratio <= 1:
            raise ConfigError(f"--ratio must be above 0 and at most 1, got {self.ratio:g}")
        if self.ranks is not None and not 0 <= self.ranks[0] < self.ranks[1] <= self.k:
            raise ConfigError(f"--range {self.ranks[0]}:{self.ranks[1]}: want 0 <= from < to <= {self.k} (--k)")
        if self.sampling not in SAMPLING:
            raise ConfigError(f"--sampling must be one of {', '.join(SAMPLING)}, got {self.sampling!r}")


@dataclass
class Choice:
    """What is left of one query's ranking."""

    rows: list[int] = field(default_factory=list)
    """Documents, best first."""
    scores: list[float] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason (of `DROPPED`) -> documents."""


def choose(
    rules: MiningRules,
    rows: Sequence[int],
    scores: Sequence[float],
    positive: float,
    known: Callable[[int], str | None],
    place: tuple[object, ...],
) -> Choice:
    """Negatives of one query.

    Args:
        rows, scores: documents found, best first.
        positive: lowest score of the query's positives.
        known: row -> why it is a positive ("positive_id", "positive_content"); None: it is none.
        place: what a random choice is a function of.
    """
    choice, left, rank = Choice(), [], 0
    for row, score in zip(rows, scores):
        reason = known(row)
        if reason is None:
            reason = _too_similar(rules, score, positive, rank)
            rank += 1
        if reason is None:
            left.append((row, score))
        else:
            choice.dropped[reason] += 1
    taken = range(min(rules.negatives, len(left)))
    if rules.sampling == "random":
        taken = sorted(Dice("mine", rules.seed, *place).sample(len(left), len(taken)))
    choice.rows, choice.scores = [left[at][0] for at in taken], [left[at][1] for at in taken]
    if len(left) > len(choice.rows):
        choice.dropped["surplus"] = len(left) - len(choice.rows)
    return choice


def _too_similar(rules: MiningRules, score: float, positive: float, rank: int) -> str | None:
    """The first rule that refuses a document which is no known positive."""
    if rules.ranks is not None and not rules.ranks[0] <= rank < rules.ranks[1]:
        return "range"
    if rules.min_score is not None and score < rules.min_score:
        return "min_score"
    if rules.max_score is not None and score > rules.max_score:
        return "max_score"
    if rules.margin is not None and score > positive - rules.margin:
        return "margin"
    # Of a negative positive score a share would be more, not less: the distance is taken from its size.
    if rules.ratio is not None and score > positive - (1 - rules.ratio) * abs(positive):
        return "ratio"
    return None
