"""A corpus or its queries encoded to disk, part by part: restartable, in slices, the same bytes whoever does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmret.data.source import Source
from mmret.data.spec import DataSpec, find_spec
from mmret.errors import ConfigError
from mmret.evaluation.benchmark import Benchmark
from mmret.evaluation.encode import Settings, Track, encode, evaluating, untracked
from mmret.evaluation.split import Corpus
from mmret.index.stored import Encoding, claim, complete, write_part
from mmret.models.retriever import Retriever
from mmret.types import Content, Embeddings, Role

ROWS_PER_PART = 8192
_SAMPLED = 64
"""Numbers of each weight that its identity reads."""


@dataclass(frozen=True)
class Target:
    """What is encoded, by row."""

    name: str
    role: Role
    rows: int
    id: Callable[[int], str]
    content: Callable[[int], Content]
    length: Callable[[int], int]
    """Rows of like length are padded together."""


@dataclass(frozen=True)
class Done:
    """What a process did."""

    written: int
    skipped: int
    """Its parts that were there."""
    missing: int
    """Parts of others that are not there yet; 0: the folder is complete, and was checked."""


def open_target(name: str, side: Role) -> Target:
    """The documents, or the queries, of a benchmark ("demo/flags", "demo/flags/heldout") or a data spec.

    Raises:
        ConfigError: there is none of this name, it has no documents, or several splits have queries.
    """
    try:
        benchmark, splits = Benchmark.load_target(name)
    except ConfigError as error:
        return _of_spec(name, side, error)
    if side == "document":
        return _of_corpus(name, benchmark.corpus)
    if len(splits) != 1:
        raise ConfigError(f"{name} has the splits {', '.join(splits)}; name one: {name}/{splits[0]}")
    split = benchmark.split(splits[0])
    return Target(name, side, len(split), lambda row: split.queries[row].id, split.content, lambda row: 0)


def encode_to_disk(
    model: Retriever,
    target: Target,
    out: str | Path,
    settings: Settings,
    *,
    slice: tuple[int, int] = (0, 1),
    rows_per_part: int = ROWS_PER_PART,
    dtype: str = "float32",
) -> Done:
    """Write this slice's parts that are not there yet; the last to finish checks ids over all of them.

    Args:
        slice: (number from 0, count): every count-th part from this one on.

    Raises:
        ConfigError: the folder holds other embeddings, or there is nothing to encode.
        SampleError: a row is broken, or an id occurs twice.
    """
    out = Path(out)
    if not target.rows:
        raise ConfigError(f"{target.name} has no rows to encode")
    encoding = Encoding(
        identity(model), target.name, target.role, target.rows, rows_per_part, settings.batch_size, dtype
    )
    claim(out, encoding)
    mine = range(encoding.parts)[slice[0] :: slice[1]]
    open_parts = [part for part in mine if not encoding.file(out, part).is_file()]
    with evaluating(model, settings.device):
        # One bar: of the parts, or of the batches of the only one.
        outer, inner = (settings.track, untracked) if len(open_parts) > 1 else (untracked, settings.track)
        for part in outer(open_parts, "encode parts", len(open_parts)):
            rows = encoding.part_rows(part)
            vectors = _vectors(model, target, rows, settings, inner)
            write_part(encoding.file(out, part), [target.id(row) for row in rows], vectors, dtype)
    return Done(len(open_parts), len(mine) - len(open_parts), len(complete(out)))


def identity(model: Retriever) -> str:
    """Tells models apart: configuration, and some numbers of each weight."""
    digest = blake2b(repr(vars(model).get("config")).encode(), digest_size=12)
    for name, value in model.state_dict().items():
        flat = value.detach().flatten()
        sample = flat[:: max(1, len(flat) // _SAMPLED)].float().cpu().numpy()
        digest.update(f"{name} {tuple(value.shape)}".encode() + sample.tobytes())
    return digest.hexdigest()


def _vectors(model: Retriever, target: Target, rows: Sequence[int], settings: Settings, track: Track) -> list[Any]:
    """[D] or [T, D] of each row, as numpy arrays."""
    order = sorted(rows, key=target.length)
    found: dict[int, np.ndarray] = {}
    batches = encode(
        model,
        target.content,
        order,
        target.role,
        batch_size=settings.batch_size,
        num_workers=settings.num_workers,
        track=track,
    )
    for numbers, embeddings in batches:
        found |= zip(numbers.tolist(), _arrays(embeddings))
    return [found[row] for row in rows]


def _arrays(embeddings: Embeddings) -> list[np.ndarray]:
    """Of each row, without masked tokens: no score knows them."""
    vectors = embeddings.vectors.to("cpu", torch.float32)
    if embeddings.mask is None:
        return list(vectors.numpy())
    return [tokens[kept].numpy() for tokens, kept in zip(vectors, embeddings.mask.cpu())]


def _of_spec(name: str, side: Role, error: ConfigError) -> Target:
    try:
        find_spec(name)
    except ConfigError:
        raise error from None
    spec = DataSpec.load(name)
    if side == "query":
        source = spec.open()
        return Target(name, side, len(source), lambda row: source.parse(row).name, _query_of(source), lambda row: 0)
    if spec.documents is None:
        raise ConfigError(f"{spec.file} names no `documents`; --side query encodes what its rows ask")
    return _of_corpus(name, Corpus(spec))


def _of_corpus(name: str, corpus: Corpus) -> Target:
    return Target(name, "document", len(corpus), corpus.id, corpus.content, lambda row: len(corpus.text(row)))


def _query_of(source: Source) -> Callable[[int], Content]:
    return lambda row: source.parse(row).query
