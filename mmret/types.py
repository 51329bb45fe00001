"""The vocabulary: what a shard holds, what a model eats, what a retriever gives. No logic but split, select, to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from mmret.content import NO_DOCUMENT, NO_POSITIVE, Content, Example, document_number, document_numbers
from mmret.image import EncodedImage, EncodedVideo

__all__ = [
    "NO_DOCUMENT",
    "NO_POSITIVE",
    "Batch",
    "Content",
    "Embeddings",
    "EncodedImage",
    "EncodedVideo",
    "Example",
    "Inputs",
    "Need",
    "Processor",
    "Role",
    "TokenVocabulary",
    "document_number",
    "document_numbers",
]

Role = Literal["query", "document"]


class Need(Enum):
    """What an objective needs beyond embeddings; collation, the recipe check and GradCache read it."""

    PAIR = "pair"
    """The model must be a `PairEncoder`."""
    MASKED_QUERY = "masked_query"
    """The batch must carry token-masked queries."""
    DOCUMENT = "document"
    """Each query must come with a positive document."""
    NEGATIVES = "negatives"
    """Each query must come with at least one negative document."""
    TARGETS = "targets"
    """Each row must say which class is right."""
    MASKED_IMAGE = "masked_image"
    """The model must be a `MaskedImageEncoder`, and the batch say which patches it does not see."""


@dataclass(frozen=True)
class Inputs:
    """Model inputs of N rows."""

    dense: Mapping[str, Tensor] = field(default_factory=dict)
    """dim 0 = row: input_ids, attention_mask, pixel_values, ..."""
    ragged: Mapping[str, Sequence[Tensor]] = field(default_factory=dict)
    """One tensor per row: patches and grids of a variable-resolution model."""

    def __post_init__(self) -> None:
        sizes = {name: len(value) for name, value in (*self.dense.items(), *self.ragged.items())}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"inputs disagree on the number of rows: {sizes}")

    def __len__(self) -> int:
        return next((len(value) for value in (*self.dense.values(), *self.ragged.values())), 0)

    def __contains__(self, name: str) -> bool:
        return name in self.dense or name in self.ragged

    def select(self, rows: slice | Sequence[int] | Tensor) -> Inputs:
        """The given rows, in the given order."""
        if isinstance(rows, slice):
            index = list(range(len(self)))[rows]
            return Inputs(
                {k: v[rows] for k, v in self.dense.items()}, {k: [v[i] for i in index] for k, v in self.ragged.items()}
            )
        numbers = rows if isinstance(rows, Tensor) else torch.tensor(rows, dtype=torch.long)
        # Once to each device, and without waiting for it; back from it only where there are rows to pick one by one.
        at_once = numbers.device.type == "cpu"
        there = {d: numbers.to(d, non_blocking=at_once) for d in {v.device for v in self.dense.values()}}
        index = numbers.tolist() if self.ragged else []
        return Inputs(
            {k: v[there[v.device]] for k, v in self.dense.items()},
            {k: [v[i] for i in index] for k, v in self.ragged.items()},
        )

    def split(self, size: int) -> Iterator[Inputs]:
        """Chunks of at most `size` rows; joined again they are the whole."""
        for start in range(0, len(self), size):
            yield self.select(slice(start, start + size))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Inputs:
        """All tensors on `device`."""
        return Inputs(
            {k: v.to(device, non_blocking=non_blocking) for k, v in self.dense.items()},
            {k: [t.to(device, non_blocking=non_blocking) for t in v] for k, v in self.ragged.items()},
        )

    def pin_memory(self) -> Inputs:
        """All tensors in page-locked memory; the loader calls this."""
        return Inputs(
            {k: v.pin_memory() for k, v in self.dense.items()},
            {k: [t.pin_memory() for t in v] for k, v in self.ragged.items()},
        )


@dataclass(frozen=True)
class Batch:
    """What one rank trains on in one step.

    Documents are query-major: rows [i * num_documents, (i + 1) * num_documents) belong to query i, its positive first.
    Rows that bring fewer (`document_counts`) leave their last places empty: `Step` keeps such places out of all scores.
    A batch without documents (`document` None, `num_documents` 0) is for objectives that read rows alone.
    """

    query: Inputs
    document: Inputs | None
    num_documents: int
    document_ids: Tensor | None = None
    """[B * num_documents] int64; equal numbers are the same document (`document_number`), NO_DOCUMENT is none."""
    document_counts: Tensor | None = None
    """[B] int64: how many documents each query brings, 1 to `num_documents`, where rows differ; `document` then holds
    those alone, one query's after the other's. None: `num_documents` each."""
    positive_ids: Tensor | None = None
    """[B, P] int64 numbers of all documents known to answer each query, drawn or not; filled up with
    NO_POSITIVE."""
    teacher_scores: Tensor | None = None
    """[B, num_documents] float32: what a teacher gave each query's own documents; NaN where it gave nothing."""
    masked_query: Inputs | None = None
    masked_image: Tensor | None = None
    """[B, P] bool: patches of each row's picture that the model is not to see."""
    targets: Tensor | None = None
    """[B] int64: each row's class; or [B, C] float32: a score in [0, 1] for each class."""
    sources: tuple[str, ...] = ()
    """Source of each row."""
    keys: tuple[str, ...] = ()
    """shard:key of each row."""

    def __post_init__(self) -> None:
        if self.document is not None and self.document_counts is not None:
            # Not again after a move to a GPU, which it would wait for.
            if not self.document_counts.is_cuda and len(self.document) != int(self.document_counts.sum()):
                raise ValueError(
                    f"{len(self.document)} document rows, want {int(self.document_counts.sum())} (sum of the counts)"
                )
        elif self.document is not None and len(self.document) != len(self.query) * self.num_documents:
            raise ValueError(
                f"{len(self.document)} document rows, want {len(self.query) * self.num_documents} "
                f"(= {len(self.query)} queries x {self.num_documents} documents per query)"
            )
        if self.teacher_scores is not None and self.teacher_scores.shape != (len(self.query), self.num_documents):
            raise ValueError(
                f"teacher_scores {list(self.teacher_scores.shape)}, want [{len(self.query)}, {self.num_documents}] "
                "(queries, documents per query)"
            )

    def __len__(self) -> int:
        return len(self.query)

    @property
    def positive_rows(self) -> slice | Tensor:
        """Which rows of `document` are the queries' positives."""
        if self.document_counts is None:
            return slice(None, None, self.num_documents)
        return self.document_counts.cumsum(0) - self.document_counts

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """All tensors on `device`."""

        def move(value: Any) -> Any:
            return None if value is None else value.to(device, non_blocking=non_blocking)

        return replace(
            self,
            query=move(self.query),
            document=move(self.document),
            document_ids=move(self.document_ids),
            document_counts=move(self.document_counts),
            positive_ids=move(self.positive_ids),
            teacher_scores=move(self.teacher_scores),
            masked_query=move(self.masked_query),
            masked_image=move(self.masked_image),
            targets=move(self.targets),
        )

    def pin_memory(self) -> Batch:
        """Inputs in page-locked memory; the loader calls this."""
        return replace(
            self,
            query=self.query.pin_memory(),
            document=None if self.document is None else self.document.pin_memory(),
            masked_query=None if self.masked_query is None else self.masked_query.pin_memory(),
            masked_image=None if self.masked_image is None else self.masked_image.pin_memory(),
            targets=None if self.targets is None else self.targets.pin_memory(),
        )


@dataclass(frozen=True)
class Embeddings:
    """What a retriever gives for N rows."""

    vectors: Tensor
    """[N, D] single vector, [N, T, D] late interaction; unit length, or all zero where a token is masked."""
    mask: Tensor | None = None
    """[N, T] bool; None for a single vector."""
    aux: Mapping[str, Embeddings] = field(default_factory=dict)
    """Further heads of the same pass (VLMo: "vl")."""

    def __len__(self) -> int:
        return len(self.vectors)

    def head(self, name: str = "main") -> Embeddings:
        """The embeddings of a named head; "main" is this one."""
        return self if name == "main" else self.aux[name]

    def select(self, rows: slice | Tensor) -> Embeddings:
        """The given rows."""
        return Embeddings(
            self.vectors[rows],
            None if self.mask is None else self.mask[rows],
            {name: head.select(rows) for name, head in self.aux.items()},
        )

    def split(self, size: int) -> Iterator[Embeddings]:
        """Chunks of at most `size` rows."""
        for start in range(0, len(self), size):
            yield self.select(slice(start, start + size))

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Embeddings:
        """Vectors on `device` in `dtype`; masks follow the device."""
        return Embeddings(
            self.vectors.to(device=device, dtype=dtype),
            None if self.mask is None else self.mask.to(device=device),
            {name: head.to(device, dtype) for name, head in self.aux.items()},
        )

    def as_leaf(self) -> Embeddings:
        """Cut from the graph that made it, collecting gradient (GradCache)."""
        return Embeddings(
            self.vectors.detach().requires_grad_(), self.mask, {name: head.as_leaf() for name, head in self.aux.items()}
        )

    @staticmethod
    def cat(parts: Sequence[Embeddings]) -> Embeddings:
        """Join rows; shorter token axes are padded with masked zero vectors."""
        first = parts[0]
        aux = {name: Embeddings.cat([part.aux[name] for part in parts]) for name in first.aux}
        if first.mask is None:
            return Embeddings(torch.cat([part.vectors for part in parts]), None, aux)
        tokens = max(part.vectors.shape[1] for part in parts)
        vectors, masks = [], []
        for part in parts:
            missing = tokens - part.vectors.shape[1]
            assert part.mask is not None
            vectors.append(torch.nn.functional.pad(part.vectors, (0, 0, 0, missing)))
            masks.append(torch.nn.functional.pad(part.mask, (0, missing), value=False))
        return Embeddings(torch.cat(vectors), torch.cat(masks), aux)


@dataclass(frozen=True)
class TokenVocabulary:
    """What masking must know of a tokenizer (`processor.vocabulary` of a model that can be masked)."""

    mask: int
    """Id of [MASK]."""
    special: tuple[int, ...]
    """Ids that are never masked: padding, start, end."""
    continues: Tensor
    """[V] bool: this token goes on with the word before it (WordPiece: "##")."""
    max_tokens: int
    """Longest text, special tokens included."""

    def __len__(self) -> int:
        return len(self.continues)


class Processor(Protocol):
    """Contents to model inputs; runs in data workers, so it must pickle. A model owns one (`Retriever.processor`)."""

    def __call__(self, contents: Sequence[Content], role: Role) -> Inputs: ...
