"""Drawn rows to a batch, through the model's processor."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mmret.data.draw import Drawn
from mmret.data.masking import mask_words
from mmret.errors import ConfigError
from mmret.recipe.schema import MaskingConfig
from mmret.types import Batch, Inputs, Processor


def collate(rows: Sequence[Drawn], processor: Processor, masking: MaskingConfig | None = None) -> Batch:
    """The batch of these rows; documents are query-major, each query's positive first.

    Args:
        masking: how to mask the texts a second time (queries', or else the positives'); None: not at all.

    Raises:
        SampleError: an image does not decode.
        ConfigError: texts are to be masked, and there are none or the processor has no vocabulary.
    """
    documents = [document for row in rows for document in row.documents]
    numbers = [number for row in rows for number in row.document_numbers]
    positives = torch.tensor([number for row in rows for number in row.positive_numbers], dtype=torch.int64)
    query, document = processor([row.query for row in rows], "query"), processor(documents, "document")
    num_documents = len(rows[0].documents)
    return Batch(
        query=query,
        document=document,
        num_documents=num_documents,
        document_ids=torch.tensor(numbers, dtype=torch.int64),
        positive_ids=positives.split([len(row.positive_numbers) for row in rows]),
        teacher_scores=_teacher_scores(rows, num_documents),
        sources=tuple(row.source for row in rows),
        keys=tuple(row.key for row in rows),
        masked_query=None if masking is None else _masked(rows, processor, masking, query, document, num_documents),
    )


def _teacher_scores(rows: Sequence[Drawn], K: int) -> Tensor | None:
    """[B, K], NaN where a teacher gave nothing; None if it gave nothing at all."""
    if all(row.scores is None for row in rows):
        return None
    return torch.tensor([row.scores or (math.nan,) * K for row in rows])


def _masked(
    rows: Sequence[Drawn], processor: Processor, masking: MaskingConfig, query: Inputs, document: Inputs, K: int
) -> Inputs:
    vocabulary = getattr(processor, "vocabulary", None)
    if vocabulary is None:
        raise ConfigError(f"an objective wants masked texts, which {type(processor).__name__} has no vocabulary for")
    texts = query if "input_ids" in query else document.select(slice(None, None, K))
    if "input_ids" not in texts:
        raise ConfigError("an objective wants masked texts, and neither queries nor documents have any")
    return mask_words(texts, vocabulary, masking, [row.dice for row in rows])
