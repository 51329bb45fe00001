"""Weights from one stage to the next, by name, with a report of what was kept, copied, new and dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mmret.errors import CheckpointError
from mmret.models.retriever import Retriever


@dataclass
class Handover:
    """Names of state entries by what became of them."""

    source: str
    kept: list[str] = field(default_factory=list)
    """Same name and shape in both."""
    copied: dict[str, str] = field(default_factory=dict)
    """New name -> the entry it started from (`Retriever.handover_source`)."""
    resized: dict[str, str] = field(default_factory=dict)
    """Name -> "old shape to new shape" of what is kept, but fitted to another image size or text length."""
    new: list[str] = field(default_factory=list)
    """Only in the new stage: fresh."""
    dropped: list[str] = field(default_factory=list)
    """Only in the old stage: gone."""
    frozen: list[str] = field(default_factory=list)
    """Parameters that this stage does not train; filled in by the training."""

    def summary(self) -> dict[str, list[str]]:
        """Each list cut to module names, for people."""
        lists: dict[str, list[str]] = {k: list(v) for k, v in asdict(self).items() if isinstance(v, (list, dict))}
        lists["copied"] = [f"{new} from {old}" for new, old in self.copied.items()]
        summary = {kind: _modules(names) for kind, names in lists.items()}
        return {**summary, "resized": [f"{name} {shapes}" for name, shapes in self.resized.items()]}


def hand_over(model: Retriever, old: Mapping[str, Tensor], source: str) -> Handover:
    """Load an earlier stage's model state into `model`, in place.

    Raises:
        CheckpointError: an entry of the same name has another shape.
    """
    report = Handover(source)
    shapes = {key: tuple(value.shape) for key, value in old.items()}
    state, old = model.state_dict(), model.adapt_state(dict(old))
    report.resized = {
        key: f"{shapes[key]} to {tuple(value.shape)}"
        for key, value in old.items()
        if shapes.get(key, tuple(value.shape)) != tuple(value.shape)
    }
    _take(state, old, report, "", "Sizes must stay between stages")
    for key in list(report.new):
        alias = model.handover_source(key)
        if alias in old:
            state[key] = old[alias].clone()
            report.new.remove(key)
            report.copied[key] = alias
    report.dropped = [key for key in report.dropped if key not in report.copied.values()]
    model.load_state_dict(state)
    return report


def hand_over_objectives(objectives: nn.Module, old: Mapping[str, Tensor], report: Handover) -> None:
    """The same for objectives: those of the same name keep their parameters."""
    state = objectives.state_dict()
    _take(state, old, report, "objectives.", "A head for other classes is another objective: give it another name")
    objectives.load_state_dict(state)


def _take(state: dict[str, Any], old: Mapping[str, Tensor], report: Handover, prefix: str, rule: str) -> None:
    wrong = [
        f"{prefix}{key}: {tuple(old[key].shape)} there, {tuple(value.shape)} here"
        for key, value in state.items()
        if key in old and old[key].shape != value.shape
    ]
    if wrong:
        raise CheckpointError(f"{report.source} does not fit this stage's model: " + "; ".join(wrong) + f". {rule}.")
    for key in state:
        if key in old:
            state[key] = old[key].to(torch.get_default_dtype()) if old[key].is_floating_point() else old[key]
            report.kept.append(prefix + key)
        else:
            report.new.append(prefix + key)
    report.dropped += [prefix + key for key in old if key not in state]


def _modules(names: list[str], depth: int = 2) -> list[str]:
    """'text.encoder.layer.0.…' x 72 -> 'text.encoder (72)'."""
    counts: dict[str, int] = {}
    for name in names:
        new, _, old = name.partition(" from ")
        short = ".".join(new.split(".")[:depth]) + (f" from {'.'.join(old.split('.')[:depth])}" if old else "")
        counts[short] = counts.get(short, 0) + 1
    return [short if count == 1 else f"{short} ({count})" for short, count in counts.items()]
