"""One batch on its way to a loss: intermediate values, each computed on first use and at most once."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from mmret.models.retriever import Retriever
from mmret.ops import false_negatives, gather_embeddings, gather_tensor, rank_and_world
from mmret.types import Batch, Embeddings


class Step:
    """What is known of this batch. Objectives ask; nothing depends on who asked first.

    Args:
        model: encodes and scores.
        batch: this rank's rows.
        queries, documents: embeddings made elsewhere (GradCache's leaves, tests); None: encoded on first use.
    """

    def __init__(
        self,
        model: Retriever,
        batch: Batch,
        *,
        queries: Embeddings | None = None,
        documents: Embeddings | None = None,
    ) -> None:
        self.model, self.batch = model, batch
        self._scores: dict[str, Tensor] = {}
        self._reverse_scores: dict[str, Tensor] = {}
        if queries is not None:
            self.queries = queries
        if documents is not None:
            self.documents = documents

    @cached_property
    def queries(self) -> Embeddings:
        """This rank's B queries."""
        return self.model.encode_query(self.batch.query)

    @cached_property
    def documents(self) -> Embeddings:
        """This rank's B*K documents, query-major, the positive first."""
        if self.batch.document is None:
            raise ValueError("this batch has no documents, but an objective asks for their embeddings")
        return self.model.encode_document(self.batch.document)

    @cached_property
    def all_documents(self) -> Embeddings:
        """All ranks' W*B*K documents, with gradient."""
        return gather_embeddings(self.documents)

    @cached_property
    def all_queries(self) -> Embeddings:
        """All ranks' W*B queries, with gradient."""
        return gather_embeddings(self.queries)

    def scores(self, head: str = "main") -> Tensor:
        """[B, W*B*K]: local queries, all ranks' documents."""
        # Rows are local, columns global: DDP's mean over ranks is then the exact mean over the global batch, no factor.
        if head not in self._scores:
            self._scores[head] = self.model.score(self.queries.head(head), self.all_documents.head(head))
        return self._scores[head]

    def reverse_scores(self, head: str = "main") -> Tensor:
        """[B, W*B]: local positive documents, all ranks' queries."""
        if head not in self._reverse_scores:
            positives = self.documents.head(head).select(slice(None, None, self.batch.num_documents))
            self._reverse_scores[head] = self.model.score(self.all_queries.head(head), positives).T
        return self._reverse_scores[head]

    def own_scores(self, head: str = "main") -> Tensor:
        """[B, K]: each query with its own documents only."""
        K = self.batch.num_documents
        queries, documents = self.queries.head(head), self.documents.head(head)
        rows = [
            self.model.score(queries.select(slice(i, i + 1)), documents.select(slice(i * K, (i + 1) * K)))
            for i in range(len(queries))
        ]
        return torch.cat(rows)

    @cached_property
    def targets(self) -> Tensor:
        """[B] column of each row's positive in `scores`."""
        rank, _ = rank_and_world()
        B = len(self.queries)
        return (torch.arange(B, device=self.queries.vectors.device) + rank * B) * self.batch.num_documents

    @cached_property
    def reverse_targets(self) -> Tensor:
        """[B] column of each positive document's query in `reverse_scores`."""
        return self.targets // self.batch.num_documents

    @cached_property
    def all_document_ids(self) -> Tensor | None:
        """[W*B*K] ids of the columns of `scores`."""
        return None if self.batch.document_ids is None else gather_tensor(self.batch.document_ids)

    @cached_property
    def false_negatives(self) -> Tensor | None:
        """[B, W*B*K] bool: documents known to answer the row's query that are not its target; None without ids."""
        if self.all_document_ids is None or self.batch.positive_ids is None:
            return None
        return false_negatives(self.batch.positive_ids, self.all_document_ids, self.targets)

    @cached_property
    def reverse_false_negatives(self) -> Tensor | None:
        """[B, W*B] bool: other queries whose target is the row's document; None without ids."""
        if self.all_document_ids is None:
            return None
        K = self.batch.num_documents
        assert self.batch.document_ids is not None
        same = self.batch.document_ids[::K].unsqueeze(1) == self.all_document_ids[::K].unsqueeze(0)
        same[torch.arange(len(same), device=same.device), self.reverse_targets] = False
        return same
