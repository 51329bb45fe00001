"""Contents to embeddings, batch by batch, without a trace left on the model or the random state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mmret.models.retriever import Retriever
from mmret.ops import gather_embeddings, gather_tensor, rank_and_world
from mmret.types import Content, Embeddings, Inputs, Processor, Role


class Track(Protocol):
    """Shows progress while items pass; `mmret.training.progress.track` is one."""

    def __call__(self, items: Iterable[Any], what: str, total: int | None = None) -> Iterator[Any]: ...


def untracked(items: Iterable[Any], what: str, total: int | None = None) -> Iterator[Any]:
    """No progress shown."""
    yield from items


@dataclass(frozen=True)
class Settings:
    """How to evaluate; nothing here changes a number."""

    batch_size: int = 64
    """Rows encoded at once."""
    device: torch.device | str | None = None
    """Where to; None: where the model is. It goes back afterwards."""
    num_workers: int = 0
    """Loader processes that read and decode; 0: in this one."""
    track: Track = untracked
    """Shows progress."""


@contextmanager
def evaluating(model: nn.Module, device: torch.device | str | None = None) -> Iterator[torch.device]:
    """Evaluation mode without gradients; leaves each module's own train/eval mode and all random states as they were.

    Towers that are frozen in training are in eval mode while the rest trains: hence module by module.

    Args:
        device: the model moves there, and back at the end (Lightning leaves a model on the CPU after a fit); None: it
            stays where it is.
    """
    modes = {module: module.training for module in model.modules()}
    home = device_of(model)
    model.to(device or home)
    devices = [device_of(model)] if device_of(model).type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad():
        try:
            model.eval()
            yield device_of(model)
        finally:
            for module, training in modes.items():
                module.training = training
            model.to(home)


def encode(
    model: Retriever,
    content: Callable[[int], Content],
    rows: Sequence[int],
    role: Role,
    *,
    batch_size: int,
    num_workers: int = 0,
    track: Track = untracked,
) -> Iterator[tuple[Tensor, Embeddings]]:
    """Embeddings of `content(row)` for the given rows, in batches of their order, on the model's device.

    With torch.distributed every rank gets its share of the batches: the same batches as one process would make, so
    that an embedding does not depend on the number of ranks.

    Args:
        content: row -> what is encoded; called in the loader's workers.
        rows: order of encoding; neighbours share a batch, so rows of like length should be neighbours.
        num_workers: loader processes; 0 reads and decodes in this one.

    Yields:
        rows [B] int64 and their embeddings, without tokens that are masked in the whole batch.
    """
    encoder = model.encode_query if role == "query" else model.encode_document
    what = "queries" if role == "query" else "documents"
    for batch, inputs in read(
        model, content, rows, role, f"encode {what}", batch_size=batch_size, num_workers=num_workers, track=track
    ):
        yield batch, compact(encoder(inputs))


def read(
    model: Retriever,
    content: Callable[[int], Content],
    rows: Sequence[int],
    role: Role,
    what: str,
    *,
    batch_size: int,
    num_workers: int,
    track: Track,
) -> Iterator[tuple[Tensor, Inputs]]:
    """This rank's batches, on the model's device: rows [B] int64 and what the model reads of them."""
    rank, world = rank_and_world()
    batches = [list(rows[start : start + batch_size]) for start in range(0, len(rows), batch_size)]
    batches = batches[rank::world]
    data = _Batches(content, batches, model.processor, role)
    device = device_of(model)
    loader = DataLoader(
        data,
        batch_size=None,
        num_workers=num_workers,
        generator=torch.Generator(),
        pin_memory=torch.cuda.is_available() and device.type == "cuda",
    )
    for batch, inputs in zip(batches, track(loader, what, len(batches))):
        yield torch.tensor(batch), inputs.to(device, non_blocking=True)


def encode_all_queries(
    model: Retriever, content: Callable[[int], Content], num: int, *, batch_size: int, num_workers: int, track: Track
) -> Embeddings:
    """Embeddings of queries 0 .. num - 1 in order, encoded by all ranks, whole on every rank, on the model's device."""
    # A rank without a batch of its own would not know the shapes to gather: it encodes row 0 and marks it as no row.
    rank, world = rank_and_world()
    idle = rank * batch_size >= num
    parts = list(
        encode(model, content, range(num), "query", batch_size=batch_size, num_workers=num_workers, track=track)
    )
    if idle:
        inputs = model.processor([content(0)], "query").to(device_of(model))
        parts = [(torch.tensor([-1]), model.encode_query(inputs))]
    rows = torch.cat([rows for rows, _ in parts]).to(device_of(model))
    embeddings = Embeddings.cat([part for _, part in parts])
    if world > 1:
        counts = gather_tensor(torch.tensor([len(rows)], device=rows.device))
        missing = int(counts.max()) - len(rows)
        rows = gather_tensor(torch.nn.functional.pad(rows, (0, missing), value=-1))
        filler = embeddings.select(torch.zeros(missing, dtype=torch.int64, device=embeddings.vectors.device))
        embeddings = gather_embeddings(Embeddings.cat([embeddings, filler]))
        kept = rows.argsort(stable=True)[int((rows < 0).sum()) :]
        embeddings = embeddings.select(kept)
    return embeddings


def compact(embeddings: Embeddings) -> Embeddings:
    """Without the token columns that are masked in every row; they influence no score, but take memory and time."""
    aux = {name: compact(head) for name, head in embeddings.aux.items()}
    vectors, mask = embeddings.vectors, embeddings.mask
    if mask is not None:
        kept = mask.any(0)
        kept[0] = True  # at least one column, so that shapes stay shapes
        columns = kept.nonzero().squeeze(1)
        vectors, mask = vectors[:, columns], mask[:, columns]
    return Embeddings(vectors, mask, aux)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters lie; the CPU for a model without any."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


class _Batches(Dataset[Inputs]):
    """Batch i, processed; map-style, so that loader workers share the work."""

    def __init__(
        self, content: Callable[[int], Content], batches: Sequence[Sequence[int]], processor: Processor, role: Role
    ):
        self.content, self.batches, self.processor = content, batches, processor
        self.role: Role = role

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Inputs:
        return self.processor([self.content(row) for row in self.batches[index]], self.role)
