"""Matryoshka: the same loss on the leading numbers of the same embeddings (Kusupati et al. 2022, Eq. 1)."""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from mmret.errors import ConfigError
from mmret.objectives.step import Step
from mmret.ops import prefix
from mmret.types import Embeddings


class PrefixStep(Step):
    """A step seen through the first `dim` numbers of its embeddings. Nothing is encoded or gathered again.

    Raises:
        ConfigError: the embeddings have fewer.
    """

    def __init__(self, whole: Step, dim: int, head: str = "main") -> None:
        width = whole.queries.head(head).vectors.shape[-1]
        if dim > width:
            raise ConfigError(f"matryoshka: {dim} of {width} numbers an embedding; want at most {width}")
        super().__init__(whole.model, whole.batch, scales=whole.scales)
        self.whole, self.dim = whole, dim

    @cached_property
    def queries(self) -> Embeddings:
        """This rank's B queries, cut."""
        return prefix(self.whole.queries, self.dim)

    @cached_property
    def documents(self) -> Embeddings:
        """This rank's B*K documents, cut."""
        return prefix(self.whole.documents, self.dim)

    @cached_property
    def all_queries(self) -> Embeddings:
        """All ranks' queries, cut."""
        return prefix(self.whole.all_queries, self.dim)

    @cached_property
    def all_documents(self) -> Embeddings:
        """All ranks' documents, cut."""
        return prefix(self.whole.all_documents, self.dim)

    @cached_property
    def all_absent(self) -> Tensor | None:
        """The whole step's."""
        return self.whole.all_absent

    @cached_property
    def false_negatives(self) -> Tensor | None:
        """The whole step's."""
        return self.whole.false_negatives

    @cached_property
    def reverse_false_negatives(self) -> Tensor | None:
        """The whole step's."""
        return self.whole.reverse_false_negatives
