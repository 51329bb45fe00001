"""Models back into the layouts in which their authors published them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmret.errors import CheckpointError
from mmret.models.retriever import Retriever


def publish(model: Retriever, dest: str | Path, objectives: Mapping[str, Tensor] | None = None) -> None:
    """Write `model` in its architecture's published layout.

    Args:
        dest: a folder (PreFLMR), or a `.pt` file (VLMo).
        objectives: state of the stage's objectives; VLMo's layout holds their heads and temperatures.

    Raises:
        CheckpointError: the architecture has no published layout but ours.
    """
    name = model.config.name
    if name not in PUBLISHERS:
        raise CheckpointError(f"{name} has no published layout of its own; known: {', '.join(sorted(PUBLISHERS))}")
    PUBLISHERS[name](model, Path(dest), objectives or {})


def _preflmr(model: Any, dest: Path, objectives: Mapping[str, Tensor]) -> None:
    from mmret.models.preflmr import to_published

    to_published(model, dest)


def _vlmo(model: Any, dest: Path, objectives: Mapping[str, Tensor]) -> None:
    from mmret.models.vlmo.convert import to_published

    dest.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": to_published(model.state_dict(), objectives)}, dest)


PUBLISHERS: dict[str, Callable[[Any, Path, Mapping[str, Tensor]], None]] = {"preflmr": _preflmr, "vlmo": _vlmo}
"""Architecture -> what writes its published layout."""
