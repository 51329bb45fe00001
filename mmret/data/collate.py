"""Drawn rows to a batch, through the model's processor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmret.data.draw import Drawn
from mmret.data.image_masking import mask_blocks
from mmret.data.masking import mask_words
from mmret.data.patch_dropping import drop_patches, patches_of
from mmret.errors import ConfigError, SampleError
from mmret.recipe.schema import ImageMaskingConfig, MaskingConfig
from mmret.types import NO_DOCUMENT, NO_POSITIVE, Batch, Inputs, Processor


def collate(
    rows: Sequence[Drawn],
    processor: Processor,
    masking: MaskingConfig | None = None,
    ragged: int | None = None,
    image_masking: ImageMaskingConfig | None = None,
    dropped: float = 0.0,
) -> Batch:
    """The batch of these rows; documents are query-major, each query's positive first. Rows without any make none.

    Args:
        masking: how to mask the texts a second time (queries', or else the positives'); None: not at all.
        image_masking: which patches of the pictures to hide (of the same side); None: none.
        dropped: share of each picture's patches that the vision tower does not read.
        ragged: most documents of a row, where rows may have fewer; None: all have the same number.

    Raises:
        SampleError: an image does not decode, or some rows have documents, or soft scores, and others have not.
        ConfigError: texts or pictures are to be masked, and there are none, or the processor has no vocabulary or
            patches.
    """
    counts = [len(row.documents) for row in rows]
    if ragged is None or 0 in counts:
        num_documents = _alike(counts, rows, "documents")
    else:
        num_documents = ragged
    documents = [document for row in rows for document in row.documents]
    query = processor([row.query for row in rows], "query")
    document = processor(documents, "document") if documents else None
    if dropped:
        patches, places = patches_of(processor), [(row.dice, at) for row in rows for at in range(len(row.documents))]
        query = drop_patches(query, patches, dropped, [(*row.dice, "query") for row in rows])
        if document is not None:
            document = drop_patches(document, patches, dropped, [(*dice, "document", at) for dice, at in places])
    return Batch(
        query=query,
        document=document,
        num_documents=num_documents,
        document_ids=_table([row.document_numbers for row in rows], NO_DOCUMENT, num_documents).view(-1)
        if documents
        else None,
        document_counts=torch.tensor(counts, dtype=torch.int64) if documents and ragged is not None else None,
        positive_ids=_table([row.positive_numbers for row in rows], NO_POSITIVE) if documents else None,
        teacher_scores=_teacher_scores(rows, num_documents),
        targets=_targets(rows),
        sources=tuple([row.source for row in rows]),
        keys=tuple([row.key for row in rows]),
        masked_query=None if masking is None else _masked(rows, processor, masking, query, document, num_documents),
        masked_image=None if image_masking is None else _masked_image(rows, processor, image_masking, query, document),
    )


def _teacher_scores(rows: Sequence[Drawn], K: int) -> Tensor | None:
    """[B, K], NaN where a teacher gave nothing; None if it gave nothing at all."""
    scores = [row.scores for row in rows]
    if not any(scores):
        return None
    return _table([given or () for given in scores], math.nan, K)


def _table(rows: Sequence[Sequence[Any]], filling: Any, width: int | None = None) -> Tensor:
    """[B, width] of rows of any length; width None: the longest row's."""
    lengths = set(map(len, rows))
    width = max(lengths) if width is None else width
    if lengths != {width}:
        rows = [[*row, *[filling] * (width - len(row))] for row in rows]
    dtype = np.float32 if isinstance(filling, float) else np.int64
    return torch.from_numpy(np.fromiter(chain.from_iterable(rows), dtype, len(rows) * width).reshape(len(rows), width))


def _targets(rows: Sequence[Drawn]) -> Tensor | None:
    """[B] int64 classes, or [B, C] float32 scores; None where the stage reads none."""
    targets = [row.target for row in rows if row.target is not None]
    if not targets:
        return None
    num_classes = _alike([target.num_classes for target in targets], rows, "classes")
    if not _alike([target.soft for target in targets], rows, "soft scores (labels, not label)"):
        return torch.tensor([target.number for target in targets], dtype=torch.int64)
    scores = torch.zeros(len(targets), num_classes)
    for row, target in enumerate(targets):
        for number, score in target.scores.items():
            scores[row, number] = score
    return scores


def _alike(values: Sequence[int], rows: Sequence[Drawn], what: str) -> int:
    """The value that all rows have."""
    if values.count(values[0]) != len(values):
        other = next(at for at, value in enumerate(values) if value != values[0])
        raise SampleError(
            f"rows of one batch differ in their {what}: {int(values[0])} in {rows[0].source} ({rows[0].key}), "
            f"{int(values[other])} in {rows[other].source} ({rows[other].key}); mix sources whose rows are alike, or "
            "set data.block_size so that a rank's rows come from one source"
        )
    return values[0]


def _masked(
    rows: Sequence[Drawn], processor: Processor, masking: MaskingConfig, query: Inputs, document: Inputs | None, K: int
) -> Inputs:
    vocabulary = getattr(processor, "vocabulary", None)
    if vocabulary is None:
        raise ConfigError(f"an objective wants masked texts, which {type(processor).__name__} has no vocabulary for")
    texts = query if "input_ids" in query or document is None else document.select(slice(None, None, K))
    if "input_ids" not in texts:
        raise ConfigError("an objective wants masked texts, and neither queries nor documents have any")
    return mask_words(texts, vocabulary, masking, [row.dice for row in rows])


def _masked_image(
    rows: Sequence[Drawn],
    processor: Processor,
    masking: ImageMaskingConfig,
    query: Inputs,
    document: Inputs | None,
) -> Tensor:
    window = getattr(processor, "window", None)
    if window is None:
        raise ConfigError(f"an objective wants masked pictures, which {type(processor).__name__} cuts into no patches")
    pictures = query if "pixel_values" in query or document is None else document
    if "pixel_values" not in pictures:
        raise ConfigError("an objective wants masked pictures, and neither queries nor documents have any")
    if pictures.dense["pixel_values"].dim() != 4:
        raise ConfigError("an objective wants masked pictures, one in each row, and here rows have several")
    return mask_blocks(window, masking, [row.dice for row in rows])
