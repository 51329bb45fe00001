"""A VLM2Vec without adapters in the layout in which its backbone was published."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from mmret.errors import CheckpointError
from mmret.models.backbones.vlm_composed import COMPOSED
from mmret.models.vlm2vec.config import VLM2VecConfig
from mmret.models.vlm2vec.model import VLM2Vec

IN_FILES = ("name", "backbone", "composed", "peft", "dtype", "attention", "gradient_checkpointing")
"""Settings that the layout holds, or that change no embedding."""


def to_published(model: VLM2Vec, folder: Path) -> None:
    """Write config.json, weights, tokenizer and picture settings as transformers names them; no language-model head.

    Raises:
        CheckpointError: a composed backbone, or adapters that are not merged.
    """
    if model.config.backbone == COMPOSED:
        raise CheckpointError("a composed backbone was never published and has no layout but ours")
    if model.config.peft:
        raise CheckpointError(
            "the published layout of a whole model has no place for adapters; --merge them, or write --to adapter"
        )
    folder.mkdir(parents=True, exist_ok=True)
    state = {f"model.{key}": value.detach().cpu().contiguous() for key, value in model.vlm.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(model.spec.config, indent=1))
    (folder / "preprocessor_config.json").write_text(json.dumps(model.spec.pictures, indent=1))
    model.processor.tokenizer.save(folder, padding_side=model.processor.padding)


def settings_beside(model: VLM2Vec) -> dict[str, Any]:
    """Settings other than the defaults for which the layout has no place."""
    config, default = model.config, VLM2VecConfig(backbone="")
    names = [item.name for item in fields(VLM2VecConfig) if item.name not in IN_FILES]
    return {name: getattr(config, name) for name in names if getattr(config, name) != getattr(default, name)}
