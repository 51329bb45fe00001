"""One batch on its way to a loss: intermediate values, each computed on first use and at most once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from mmret.models.retriever import MaskedImageEncoder, PairEncoder, PairStates, Retriever
from mmret.ops import (
    false_negatives,
    gather_embeddings,
    gather_ids,
    gather_tensor,
    known_matches,
    local_gradient,
    rank_and_world,
)
from mmret.types import Batch, Embeddings, Inputs

NO_SCORE = -1e9
"""Score of a place without a document: no share of any softmax and, unlike -inf, no NaN times 0."""


class Step:
    """What is known of this batch. Objectives ask; nothing depends on who asked first.

    Args:
        model: encodes and scores.
        batch: this rank's rows.
        queries, documents: embeddings made elsewhere (GradCache's leaves, tests) of the batch's rows; None: encoded on
            first use.
        scales: 1/temperature that the stage's losses have learnt for a head, for those that draw negatives by it.
    """

    def __init__(
        self,
        model: Retriever,
        batch: Batch,
        *,
        queries: Embeddings | None = None,
        documents: Embeddings | None = None,
        scales: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.model, self.batch, self.scales = model, batch, scales or {}
        self._pairs: dict[bool, PairStates] = {}
        self._scores: dict[str, Tensor] = {}
        self._reverse_scores: dict[str, Tensor] = {}
        if queries is not None:
            self.queries = queries
        if documents is not None:
            self.documents = self._in_places(documents)

    @cached_property
    def queries(self) -> Embeddings:
        """This rank's B queries."""
        return self.model.encode_query(self.batch.query)

    @cached_property
    def documents(self) -> Embeddings:
        """This rank's B*K documents, query-major, the positive first; a place without one repeats its positive."""
        if self.batch.document is None:
            raise ValueError("this batch has no documents, but an objective asks for their embeddings")
        return self._in_places(self.model.encode_document(self.batch.document))

    @cached_property
    def absent(self) -> Tensor | None:
        """[B, K] bool: places without a document; None if there are none on any rank."""
        counts = self.batch.document_counts
        if counts is None:
            return None
        return torch.arange(self.batch.num_documents, device=counts.device) >= counts.unsqueeze(1)

    @cached_property
    def all_absent(self) -> Tensor | None:
        """[W*B*K] bool: columns of `scores` without a document."""
        return None if self.absent is None else gather_tensor(self.absent.flatten().byte()).bool()

    @cached_property
    def all_documents(self) -> Embeddings:
        """All ranks' W*B*K documents, with gradient."""
        return gather_embeddings(self.documents)

    @cached_property
    def all_queries(self) -> Embeddings:
        """All ranks' W*B queries, with gradient."""
        return gather_embeddings(self.queries)

    def scores(self, head: str = "main") -> Tensor:
        """[B, W*B*K]: local queries, all ranks' documents; `NO_SCORE` where there is none."""
        # Rows are local, columns global: DDP's mean over ranks is then the exact mean over the global batch, no factor.
        if head not in self._scores:
            scores = self.model.score(self.queries.head(head), self.all_documents.head(head))
            self._scores[head] = scores if self.all_absent is None else scores.masked_fill(self.all_absent, NO_SCORE)
        return self._scores[head]

    def reverse_scores(self, head: str = "main") -> Tensor:
        """[B, W*B]: local positive documents, all ranks' queries."""
        if head not in self._reverse_scores:
            positives = self.documents.head(head).select(slice(None, None, self.batch.num_documents))
            self._reverse_scores[head] = self.model.score(self.all_queries.head(head), positives).T
        return self._reverse_scores[head]

    def global_scores(self, head: str = "main") -> Tensor:
        """[W*B, W*B*K]: all ranks' queries and documents, the same on each; only this rank's rows carry gradient.

        A loss over it, averaged over ranks, has 1/W of the exact gradient for the encoders and the whole for its own
        parameters: what released codes do that gather without gradient.
        """
        queries = local_gradient(self.all_queries.head(head).vectors, self.queries.head(head).vectors)
        documents = local_gradient(self.all_documents.head(head).vectors, self.documents.head(head).vectors)
        scores = self.model.score(
            Embeddings(queries, self.all_queries.head(head).mask),
            Embeddings(documents, self.all_documents.head(head).mask),
        )
        return scores if self.all_absent is None else scores.masked_fill(self.all_absent, NO_SCORE)

    def own_scores(self, head: str = "main") -> Tensor:
        """[B, K]: each query with its own documents only; `NO_SCORE` where it has fewer."""
        K = self.batch.num_documents
        queries, documents = self.queries.head(head), self.documents.head(head)
        rows = [
            self.model.score(queries.select(slice(i, i + 1)), documents.select(slice(i * K, (i + 1) * K)))
            for i in range(len(queries))
        ]
        scores = torch.cat(rows)
        return scores if self.absent is None else scores.masked_fill(self.absent, NO_SCORE)

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
        """[B, W*B] bool: other queries that the row's positive document answers; None without ids.

        Those are queries with the same target, and queries that count the document among their positives: of two rows
        with one picture and different captions, each caption answers the other row's picture.
        """
        if self.all_document_ids is None:
            return None
        K = self.batch.num_documents
        assert self.batch.document_ids is not None
        own = self.batch.document_ids[::K]
        known = own.unsqueeze(1) == self.all_document_ids[::K].unsqueeze(0)
        if self.batch.positive_ids is not None:
            known |= known_matches(gather_ids(self.batch.positive_ids), own).T
        known[torch.arange(len(known), device=known.device), self.reverse_targets] = False
        return known

    @property
    def pair_encoder(self) -> PairEncoder:
        """The model, as one that reads text and picture together."""
        if not isinstance(self.model, PairEncoder):
            raise ValueError(f"{type(self.model).__name__} does not read text and picture together")
        return self.model

    @cached_property
    def text(self) -> Inputs:
        """The B texts, from whichever side has them; of several documents the positive's."""
        return self._side("input_ids", "texts")

    @cached_property
    def image(self) -> Inputs:
        """The B pictures, likewise."""
        return self._side("pixel_values", "pictures")

    @property
    def masked_text(self) -> Inputs:
        """The B texts with some tokens masked, and `labels` [B, T]: the token's id where it counts, else -100."""
        if self.batch.masked_query is None:
            raise ValueError("this batch has no masked texts; the data module makes them where an objective needs them")
        return self.batch.masked_query

    @property
    def image_encoder(self) -> MaskedImageEncoder:
        """The model, as one that reads pictures with hidden patches."""
        if not isinstance(self.model, MaskedImageEncoder):
            raise ValueError(f"{type(self.model).__name__} does not read pictures with hidden patches")
        return self.model

    @property
    def image_mask(self) -> Tensor:
        """[B, P] bool: patches of the B pictures that the model is not to see."""
        if self.batch.masked_image is None:
            raise ValueError("this batch hides no patches; the data module chooses them where an objective needs it")
        return self.batch.masked_image

    def pair(self, masked: bool = False) -> PairStates:
        """States of the B matching pairs read together, or of the same with masked texts."""
        if masked not in self._pairs:
            self._pairs[masked] = self.pair_encoder.encode_pair(self.masked_text if masked else self.text, self.image)
        return self._pairs[masked]

    def _in_places(self, documents: Embeddings) -> Embeddings:
        if self.batch.document_counts is None or self.absent is None:
            return documents
        first = self.batch.document_counts.cumsum(0) - self.batch.document_counts
        place = torch.arange(self.batch.num_documents, device=first.device).expand_as(self.absent)
        return documents.select((first.unsqueeze(1) + place.masked_fill(self.absent, 0)).flatten())

    def _side(self, name: str, what: str) -> Inputs:
        if name in self.batch.query:
            return self.batch.query
        if self.batch.document is not None and name in self.batch.document:
            return self.batch.document.select(self.batch.positive_rows)
        raise ValueError(f"neither queries nor documents of this batch have {what} ({name})")
