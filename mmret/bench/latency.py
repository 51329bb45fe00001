"""What a trained model takes at use: time to encode and to search, bytes of a document, tokens, size of pictures."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mmret.evaluation.benchmark import Benchmark
from mmret.evaluation.controls import control_contents
from mmret.evaluation.encode import compact, device_of, evaluating
from mmret.index import search
from mmret.models.retriever import Retriever
from mmret.types import Content, Embeddings, Inputs, Role

ROWS = 32
"""Encoded at once."""
BATCHES = 6
"""Timed, after one that is not."""
MOST_DOCUMENTS = 4096
"""Searched; a larger corpus is sampled evenly, and the time, which grows with the number, scaled up."""
SEARCHED = 64
"""Queries searched for at once."""
REPEATS = 3


def costs_at_use(model: Retriever, benchmark: Benchmark, split: str, device: str) -> dict[str, Any]:
    """Medians over batches, means over rows. Reading and decoding of pictures is not in the times.

    Every model reads the pictures themselves here, whatever a feature cache holds.
    """
    questions = benchmark.split(split)
    asked = control_contents(questions, None)
    corpus = benchmark.corpus
    with evaluating(model, device):
        queries, of_query = _encode(model, asked, _evenly(len(questions), ROWS * (BATCHES + 1)), "query")
        documents, of_document = _encode(model, corpus.content, _evenly(len(corpus), ROWS * (BATCHES + 1)), "document")
        rows = _evenly(len(corpus), MOST_DOCUMENTS)
        parts = [part for part, *_ in _batches(model, corpus.content, rows, "document")]
        seconds = _search_seconds(model, Embeddings.cat(queries).select(slice(0, SEARCHED)), parts, benchmark.depth)
    scale = len(corpus) / max(len(rows), 1)
    picture = [px for px in (of_query["image_px"], of_document["image_px"]) if px is not None]
    return {
        "embedding_bytes_per_document": _bytes(documents),
        "query_tokens": of_query["tokens"],
        "document_tokens": of_document["tokens"],
        "query_vectors": _vectors(queries),
        "document_vectors": _vectors(documents),
        "image_px": max(picture, default=None),
        "encode_query_ms": of_query["ms"],
        "encode_document_ms": of_document["ms"],
        "search_ms_per_query": 1000 * scale * seconds,
        "searched_documents": len(corpus),
    }


def _encode(
    model: Retriever, content: Callable[[int], Content], rows: Sequence[int], role: Role
) -> tuple[list[Embeddings], dict[str, Any]]:
    found, times, tokens, px = [], [], [], None
    for number, (part, inputs, seconds) in enumerate(_batches(model, content, rows, role)):
        found.append(part)
        tokens += _tokens(inputs, model)
        px = px or _image_px(inputs)
        if number or len(rows) <= ROWS:
            times.append(1000 * seconds / len(part))
    return found, {
        "ms": statistics.median(times),
        "tokens": sum(tokens) / len(tokens) if tokens else None,
        "image_px": px,
    }


def _batches(model: Retriever, content: Callable[[int], Content], rows: Sequence[int], role: Role) -> Any:
    """Embeddings on the CPU, what the model read, and seconds."""
    encoder = model.encode_query if role == "query" else model.encode_document
    device = device_of(model)
    for start in range(0, len(rows), ROWS):
        inputs = model.processor([content(row) for row in rows[start : start + ROWS]], role).to(device)
        _wait(device)
        began = time.perf_counter()
        part = encoder(inputs)
        _wait(device)
        seconds = time.perf_counter() - began
        yield compact(part).to("cpu"), inputs, seconds


def _search_seconds(model: Retriever, queries: Embeddings, corpus: Sequence[Embeddings], depth: int) -> float:
    device = device_of(model)
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        search(model, queries.to(device), corpus, depth)
        times.append((time.perf_counter() - began) / len(queries))
    return statistics.median(times)


def _evenly(count: int, most: int) -> list[int]:
    """At most so many of the rows 0 .. count - 1, evenly spread."""
    return [number * count // min(count, most) for number in range(min(count, most))]


def _vectors(parts: Sequence[Embeddings]) -> float:
    """Mean number of vectors of a row that count."""
    counts = [part.mask.sum(1) if part.mask is not None else torch.ones(len(part)) for part in parts]
    return float(torch.cat([count.float() for count in counts]).mean())


def _bytes(parts: Sequence[Embeddings]) -> float:
    """Mean of vectors x numbers in each x bytes of a number; what is masked need not be kept."""
    vectors = parts[0].vectors
    return _vectors(parts) * vectors.shape[-1] * vectors.element_size()


def _tokens(inputs: Inputs, model: Retriever) -> list[int]:
    """Places of each row that the model reads: tokens of text, with a VLM also of pictures, and else patches."""
    mask = inputs.dense.get("attention_mask")
    places = mask.sum(1) if isinstance(mask, Tensor) else torch.zeros(len(inputs), dtype=torch.int64)
    pictures = inputs.dense.get("pixel_values")
    tower: Any = model.towers().get("vision")
    if pictures is not None:
        patches = int(tower.num_patches) if tower is not None else int(getattr(model.processor, "window", 0)) ** 2
        places = places + patches * (pictures.shape[1] if pictures.ndim == 5 else 1)
    return places.tolist()


def _image_px(inputs: Inputs) -> int | None:
    """Width of the pictures that the model reads; None: there are none, or they keep their shapes."""
    if "pixel_values" in inputs.dense:
        return int(inputs.dense["pixel_values"].shape[-1])
    ragged = inputs.ragged.get("pixel_values", ())
    sizes = {int(picture.shape[-1]) for picture in ragged if picture.ndim == 4}
    return sizes.pop() if len(sizes) == 1 else None


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
