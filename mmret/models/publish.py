"""Models back into the layouts in which their authors published them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from mmret.errors import CheckpointError
from mmret.models.retriever import Retriever


def publish(model: Retriever, dest: str | Path, objectives: Mapping[str, Tensor] | None = None) -> None:
    """Write `model` in its architecture's published layout.

    Args:
        dest: a folder (PreFLMR, VLM2Vec), or a `.pt` file (VLMo).
        objectives: state of the stage's objectives; VLMo's layout holds their heads and temperatures.

    Raises:
        CheckpointError: the architecture has no published layout but ours.
    """
    name = model.config.name
    if name not in PUBLISHERS:
        raise CheckpointError(f"{name} has no published layout of its own; known: {', '.join(sorted(PUBLISHERS))}")
    PUBLISHERS[name](model, Path(dest), objectives or {})


def settings_beside(model: Retriever) -> dict[str, Any]:
    """What `mmret.load` of the published layout must be told, because it holds it nowhere and it is not the default."""
    if model.config.name == "vlm2vec":
        from mmret.models.vlm2vec import convert

        return convert.settings_beside(cast(Any, model))
    if model.config.name != "vlmo":
        return {}
    from mmret.models.vlmo.config import SIZES, VLMoConfig

    config, shape = model.config, model.config.shape
    told = {}
    if shape["positions"] == "absolute" and shape != SIZES[config.size]:
        told["heads"] = shape["heads"]
    if shape["positions"] == "relative" and config.relative_text_span != VLMoConfig.relative_text_span:
        told["relative_text_span"] = config.relative_text_span
    return told


def _preflmr(model: Any, dest: Path, objectives: Mapping[str, Tensor]) -> None:
    from mmret.models.preflmr import to_published

    to_published(model, dest)


def _vlm2vec(model: Any, dest: Path, objectives: Mapping[str, Tensor]) -> None:
    from mmret.models.vlm2vec.convert import to_published

    to_published(model, dest)


def _vlmo(model: Any, dest: Path, objectives: Mapping[str, Tensor]) -> None:
    from mmret.models.vlmo.convert import to_published

    dest.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": to_published(model.state_dict(), objectives)}, dest)


PUBLISHERS: dict[str, Callable[[Any, Path, Mapping[str, Tensor]], None]] = {
    "preflmr": _preflmr,
    "vlm2vec": _vlm2vec,
    "vlmo": _vlmo,
}
"""Architecture -> what writes its published layout."""
