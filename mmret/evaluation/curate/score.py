"""How well query and positives fit, by a retriever's own score: CLIPScore filtering with any model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from omegaconf import MISSING

from mmret.data.curate import Verdict, View
from mmret.data.curate.filter import extremes, no_reasons
from mmret.errors import ConfigError
from mmret.evaluation.curate.encoding import ModelFilter


@dataclass
class ScoreConfig:
    """The score of the positive that fits least, by threshold or by rank."""

    model: str = MISSING
    """A checkpoint of mmret (folder, run or hub id), `open_clip:NAME/WEIGHTS` or `open_clip:local-dir:FOLDER`."""
    threshold: float | None = None
    """Least score; its scale is the model's: cosine, or a sum over query tokens."""
    fraction: float | None = None
    """Keep this share of the samples that get here, those of the highest scores; or of equal ones the first."""
    batch_size: int = 64

    def __post_init__(self) -> None:
        if (self.threshold is None) == (self.fraction is None):
            raise ConfigError("want either threshold or fraction")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise ConfigError(f"fraction is above 0, at most 1; got {self.fraction}")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {self.batch_size}")


class Score(ModelFilter):
    """Every positive of a sample has to fit; a sample without positives goes."""

    name, Config, unit = "score", ScoreConfig, "score of the positive that fits least"
    kind = pa.list_(pa.float64())
    measured_by = ("model",)

    def measure_batch(self, views: Sequence[View]) -> list[Any]:
        """Score of each positive with its query."""
        counts = [len(view.positives) for view in views]
        if not sum(counts):
            return [[] for _ in views]
        asked = [view for view in views if view.positives]
        queries = self.embed([view.query for view in asked], "query")
        documents = self.embed([positive for view in asked for positive in view.positives], "document")
        own = torch.repeat_interleave(torch.arange(len(asked)), torch.tensor([n for n in counts if n]))
        scores: list[float] = []
        for rows in torch.arange(len(documents)).split(self.config.batch_size):
            scores += self.embedder.score(queries.select(own[rows]), documents.select(rows)).tolist()
        taken = iter(scores)
        return [[next(taken) for _ in range(count)] for count in counts]

    def judge(self, values: pa.Array, indices: np.ndarray) -> Verdict:
        """By threshold, or the top fraction of those that have a score."""
        reasons, (score, _) = no_reasons(len(values)), extremes(values)
        reasons[np.isnan(score)] = "no positives to score"
        facts = {}
        if self.config.threshold is not None:
            reasons[score < self.config.threshold] = "score too low"
        else:
            scored = np.flatnonzero(~np.isnan(score))
            most = round(self.config.fraction * len(scored))
            order = scored[np.argsort(-score[scored], kind="stable")]
            reasons[order[most:]] = "score not in the top"
            facts = {"least score that stays": float(score[order[most - 1]])} if most else {}
        return Verdict(reasons, score, facts=facts)
