"""Masked language modelling: guess hidden tokens from the rest of the text and, unless text-only, the picture."""

# M masked places, V vocabulary, H width

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu

from mmret.errors import ConfigError
from mmret.models.retriever import PairEncoder
from mmret.objectives.objective import LossOutput, Objective
from mmret.objectives.step import Step
from mmret.ops import mean_over_ranks
from mmret.types import Need


@dataclass
class MLMConfig:
    """BERT's masked tokens (Devlin et al. 2019, Sec. 3.1), read together with the picture (VLMo, Sec. 3.2)."""

    name: str = "mlm"
    weight: float = 1.0
    """VLMo's released code has 0.25 inside; we have it in the recipe."""
    text_only: bool = False
    """Without the picture: the language stage."""
    average: str = "global"
    """Mean over all ranks' masked tokens, which is exact; rank: over each rank's own, as published."""

    def __post_init__(self) -> None:
        if self.average not in ("global", "rank"):
            raise ConfigError(f"average must be global or rank, got '{self.average}'")


class MLM(Objective):
    """Cross-entropy of the hidden tokens; 0 for a batch without any. The decoder is not tied to the word embeddings."""

    Config = MLMConfig
    config: MLMConfig
    needs = frozenset({Need.PAIR, Need.MASKED_QUERY})

    def __init__(self, config: MLMConfig, width: int, num_tokens: int) -> None:
        super().__init__(config)
        self.hidden = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.decoder = nn.Linear(width, num_tokens, bias=False)
        self.bias = nn.Parameter(torch.zeros(num_tokens))
        for layer in (self.hidden, self.decoder):
            nn.init.normal_(layer.weight, std=0.02)
        nn.init.zeros_(self.hidden.bias)

    @classmethod
    def for_model(cls, config: MLMConfig, model: Any) -> MLM:
        """With a decoder over the model's vocabulary."""
        if not isinstance(model, PairEncoder):
            raise ConfigError(
                f"mlm needs a model that reads text and picture together; {type(model).__name__} does not"
            )
        return cls(config, model.width, model.num_tokens)

    def forward(self, step: Step) -> LossOutput:
        """The loss of one step; metrics: accuracy, and masked tokens per text."""
        labels = step.masked_text.dense["labels"]
        states = step.pair_encoder.encode_text(step.masked_text) if self.config.text_only else step.pair(True).text
        chosen = (labels != -100).flatten().nonzero().squeeze(1)  # once: a GPU is waited for
        logits = self.logits(states.flatten(0, 1).index_select(0, chosen)).float()
        wanted = labels.flatten().index_select(0, chosen)
        total = cross_entropy(logits, wanted, reduction="sum") if len(wanted) else logits.sum() * 0
        count = torch.full((), float(len(wanted)), device=labels.device)
        metrics = {
            "accuracy": (logits.detach().argmax(1) == wanted).float().sum() / count.clamp_min(1),
            "masked_tokens": count / len(labels),
        }
        return LossOutput(
            mean_over_ranks(total, count) if self.config.average == "global" else total / count.clamp_min(1), metrics
        )

    def logits(self, states: Tensor) -> Tensor:
        """[..., H] -> [..., V]."""
        return self.decoder(self.norm(gelu(self.hidden(states)))) + self.bias
