"""Image-text matching: does this text belong to this picture? Negatives are drawn where the retriever errs most."""

# B pairs of this rank, W ranks, K documents per query, N = W B K columns

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmret.errors import ConfigError
from mmret.models.retriever import PairEncoder
from mmret.objectives.objective import LossOutput, Objective
from mmret.objectives.step import Step
from mmret.ops import fetch_rows, rank_and_world
from mmret.types import Need


@dataclass
class ITMConfig:
    """Binary matching with hard negatives by contrastive similarity (ALBEF, Sec. 3.2; over all ranks: VLMo)."""

    name: str = "itm"
    weight: float = 1.0
    negatives: str = "global"
    """global: drawn from all ranks' rows, only the drawn ones travel; local: from this rank's."""
    temperature: float = 0.07
    """Softmax temperature of the draw where no loss of the stage has learnt one for the head "main"."""
    floor: float = 1e-6
    """Least weight of a candidate: a draw never fails, also when a row's own match takes all probability."""
    mask_false_negatives: bool = True
    """Never draw what is known to match; off as in the released code."""

    def __post_init__(self) -> None:
        if self.negatives not in ("global", "local"):
            raise ConfigError(f"negatives must be global or local, got '{self.negatives}'")
        if self.temperature <= 0:
            raise ConfigError(f"temperature must be > 0, got {self.temperature}")


@dataclass(frozen=True)
class Drawn:
    """Global row numbers of the negatives."""

    documents: Tensor
    """[B] for each query a document that does not match, in [0, W B K)."""
    queries: Tensor
    """[B] for each positive document a query that does not match, in [0, W B)."""


class ITM(Objective):
    """Two-class cross-entropy over 3B pairs: B matching, B with another document, B with another query."""

    Config = ITMConfig
    config: ITMConfig
    needs = frozenset({Need.PAIR, Need.DOCUMENT})

    def __init__(self, config: ITMConfig, width: int) -> None:
        super().__init__(config)
        self.head = nn.Linear(width, 2)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    @classmethod
    def for_model(cls, config: ITMConfig, model: Any) -> ITM:
        """With a head on the model's pooled state."""
        if not isinstance(model, PairEncoder):
            raise ConfigError(
                f"itm needs a model that reads text and picture together; {type(model).__name__} does not"
            )
        return cls(config, model.width)

    def forward(self, step: Step) -> LossOutput:
        """The loss of one step; metrics: accuracy over the 3B pairs."""
        return self.loss(step, self.draw(step))

    @torch.no_grad()
    def draw(self, step: Step) -> Drawn:
        """Negatives by torch's random state, which the training seeds for each step and rank."""
        scale = step.scales.get("main", 1 / self.config.temperature)
        masks = (
            (step.false_negatives, step.reverse_false_negatives) if self.config.mask_false_negatives else (None, None)
        )
        sides = (
            (step.scores(), step.targets, masks[0], step.batch.num_documents),
            (step.reverse_scores(), step.reverse_targets, masks[1], 1),
        )
        rows = []
        for scores, targets, mask, per_row in sides:
            weights = negative_weights(scores * scale, targets, mask, self._columns(scores, per_row))
            rows.append(draw_one(weights))
        return Drawn(*rows)

    def loss(self, step: Step, drawn: Drawn) -> LossOutput:
        """The loss with given negatives."""
        logits = self.logits(step, drawn)
        labels = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        labels[: len(logits) // 3] = 1
        accuracy = (logits.detach().argmax(1) == labels).float().mean()
        return LossOutput(cross_entropy(logits.float(), labels), {"accuracy": accuracy})

    def logits(self, step: Step, drawn: Drawn) -> Tensor:
        """[3B, 2], class 1 = match: matching pairs, own text with a drawn picture, own picture with a drawn text."""
        assert step.batch.document is not None
        documents = fetch_rows(step.batch.document, drawn.documents)
        queries = fetch_rows(step.batch.query, drawn.queries)
        texts, images = (queries, documents) if "input_ids" in step.batch.query else (documents, queries)
        pooled = [
            step.pair().pooled,
            step.pair_encoder.encode_pair(step.text, images).pooled,
            step.pair_encoder.encode_pair(texts, step.image).pooled,
        ]
        return self.head(torch.cat(pooled))

    def _columns(self, scores: Tensor, per_row: int) -> slice:
        if self.config.negatives == "global":
            return slice(None)
        rank, _ = rank_and_world()
        return slice(rank * len(scores) * per_row, (rank + 1) * len(scores) * per_row)


def negative_weights(logits: Tensor, targets: Tensor, mask: Tensor | None, columns: slice = slice(None)) -> Tensor:
    """Probabilities [B, N] to draw negatives by: the row softmax over what may be drawn.

    The released code takes the softmax over all columns and then sets the target's weight to 0. The draw is the same,
    but fails there when the target takes all probability; here it cannot.

    Args:
        logits: [B, N] similarity over temperature.
        targets: [B] column of each row's own match, never drawn.
        mask: [B, N] bool, further columns never to draw; a row that would have none left ignores it.
        columns: the only columns to draw from.

    Raises:
        ValueError: a row has no other column than its target.
    """
    allowed = torch.zeros_like(logits, dtype=torch.bool)
    allowed[:, columns] = True
    if allowed.shape[1] < 2 or (columns != slice(None) and columns.stop - columns.start < 2):
        raise ValueError("itm needs at least two pairs to draw a negative from; raise data.batch_size")
    allowed[torch.arange(len(targets), device=targets.device), targets] = False
    if mask is not None:
        kept = allowed & ~mask
        allowed = torch.where(kept.any(1, keepdim=True), kept, allowed)
    return logits.float().masked_fill(~allowed, -torch.inf).softmax(1)


def draw_one(weights: Tensor) -> Tensor:
    """A column [B] of each row of weights [B, N], by their shares.

    As torch.multinomial draws one, which first waits for a GPU to say that the weights are valid.
    """
    return (weights / torch.empty_like(weights).exponential_()).argmax(1)
