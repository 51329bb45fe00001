"""Names in metrics.json: benchmark/split[/control | /reranked][/group]/metric."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

CONTROLS = ("question_only", "image_only", "shuffled_images", "untrained", "majority", "chance")
"""What a split can be measured under; made in `controls.py`, `evaluator.py`, `chance.py` and `classification.py`.
majority (the best constant answer) is for classification."""

RERANKED = "reranked"
"""Stands in a control's place for the same split after the second step of `rerank.py`."""


@dataclass(frozen=True)
class MetricName:
    """The parts of a name such as "flags/heldout/topic=capital/recall@1"."""

    benchmark: str
    split: str
    control: str | None
    group: str | None
    """As in topic=capital."""
    metric: str

    @classmethod
    def parse(cls, name: str) -> MetricName | None:
        """None: no name of an evaluation."""
        parts = name.split("/")
        if len(parts) < 3:
            return None
        benchmark, split, *middle, metric = parts
        control = middle.pop(0) if middle and middle[0] in (*CONTROLS, RERANKED) else None
        group = "/".join(middle) or None
        return None if group and "=" not in group else cls(benchmark, split, control, group, metric)


def nearest(name: str, known: Iterable[str]) -> str:
    """For messages: what is known, and which of it is the nearest."""
    names = list(known)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"known: {', '.join(names) or 'none'}" + (f". Did you mean {close[0]}?" if close else "")
