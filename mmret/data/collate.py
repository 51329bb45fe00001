"""Drawn rows to a batch, through the model's processor."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mmret.data.draw import Drawn
from mmret.types import Batch, Processor


def collate(rows: Sequence[Drawn], processor: Processor) -> Batch:
    """The batch of these rows; documents are query-major, each query's positive first.

    Raises:
        SampleError: an image does not decode.
    """
    documents = [document for row in rows for document in row.documents]
    numbers = [number for row in rows for number in row.document_numbers]
    positives = torch.tensor([number for row in rows for number in row.positive_numbers], dtype=torch.int64)
    return Batch(
        query=processor([row.query for row in rows], "query"),
        document=processor(documents, "document"),
        num_documents=len(rows[0].documents),
        document_ids=torch.tensor(numbers, dtype=torch.int64),
        positive_ids=positives.split([len(row.positive_numbers) for row in rows]),
        sources=tuple(row.source for row in rows),
        keys=tuple(row.key for row in rows),
    )
