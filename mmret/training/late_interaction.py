"""How PreFLMR trains: the common step, plus how many tokens take part in the score."""

from __future__ import annotations

from torch import Tensor

from mmret.objectives import Step
from mmret.training.module import RetrievalModule


class LateInteractionModule(RetrievalModule):
    """Adds token statistics: a mask gone wrong shows here long before it shows in recall."""

    def total_loss(self, step: Step) -> Tensor:
        """Weighted sum of the objectives."""
        total = super().total_loss(step)
        for side, embeddings in (("query", step.queries), ("document", step.documents)):
            if embeddings.mask is not None:
                self.log(f"train/{side}_tokens", embeddings.mask.float().sum(1).mean())
        return total
