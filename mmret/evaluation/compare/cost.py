"""What a variant costs, and what it was given: the columns beside quality."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mmret.evaluation.record import RunRecord


def short(number: float) -> str:
    """Three digits and a prefix: 22.9 M."""
    for size, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g}"


def _whole(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.3g}"


@dataclass(frozen=True)
class Cost:
    """One column."""

    key: str
    """In cost.json and results.json."""
    label: str
    title: str
    """As an axis says it, with its unit."""
    show: Callable[[float], str] = _whole
    plotted: bool = False
    """Quality is drawn against it."""
    given: bool = False
    """No price but an input: a difference here is a difference in what the variants could see or hold."""


COSTS = (
    Cost("parameters", "parameters", "parameters", short, plotted=True, given=True),
    Cost("trainable", "trained", "trained parameters", short, given=True),
    Cost("image_px", "image px", "side of the image in pixels", given=True),
    Cost("query_tokens", "query tokens", "tokens of a query", given=True),
    Cost("document_tokens", "doc. tokens", "tokens of a document", given=True),
    Cost("embedding_bytes_per_document", "bytes / doc.", "bytes kept for a document", _whole, plotted=True),
    Cost("training_flops", "training FLOPs", "training FLOPs", short, plotted=True),
    Cost("train_seconds", "training s", "training time in seconds"),
    Cost("samples_per_s", "samples/s", "samples trained on in a second"),
    Cost("peak_memory_mb", "peak MB", "peak memory in MB"),
    Cost("encode_query_ms", "query ms", "milliseconds to encode a query", plotted=True),
    Cost("encode_document_ms", "doc. ms", "milliseconds to encode a document"),
    Cost("search_ms_per_query", "search ms", "milliseconds to search for a query"),
)


def mean_cost(seeds: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Mean over seeds of each known cost; those which no seed has are left out."""
    listed = list(seeds)
    found = {}
    for cost in COSTS:
        values = [float(seed[cost.key]) for seed in listed if isinstance(seed.get(cost.key), (int, float))]
        if values:
            found[cost.key] = sum(values) / len(values)
    return found


def cost_of(run: RunRecord) -> dict[str, float]:
    """What the stages of a run tell of its cost where nothing else was measured.

    Parameters are the last stage's, trained ones those of the stage that trains most, seconds are summed, samples/s
    their mean by time.
    """
    found: dict[str, float] = {}
    facts = [stage.facts for stage in run.stages]
    if facts and facts[-1].get("parameters"):
        found["parameters"] = facts[-1]["parameters"]
        found["trainable"] = max(float(fact.get("trainable") or 0) for fact in facts)
    seconds = [float(fact.get("seconds") or 0) for fact in facts]
    if facts and all(seconds):
        found["train_seconds"] = sum(seconds)
        speeds = [fact.get("samples_per_s") for fact in facts]
        if all(speeds):
            found["samples_per_s"] = sum(float(s or 0) * t for s, t in zip(speeds, seconds)) / sum(seconds)
    return found
