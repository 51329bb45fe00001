"""Open a checkpoint: `mmret.load(folder_or_hub_id)`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmret.errors import CheckpointError
from mmret.models.backbones.source import local_folder
from mmret.models.backbones.vlm_table import FAMILIES
from mmret.models.preflmr.checkpoint import read_config
from mmret.models.retriever import Retriever

PUBLISHED = {"flmr": "preflmr", **dict.fromkeys(FAMILIES, "vlm2vec")}
"""`model_type` of published layouts -> entry of `MODELS`."""


def load(checkpoint: str | Path, **overrides: Any) -> Retriever:
    """A retriever with its weights and processor, in eval mode.

    Args:
        checkpoint: a folder that `Retriever.save` or a stage wrote, a published checkpoint's folder, a hub id, or a
            VLMo or BEiT weight file.
        overrides: settings of the model's configuration to change.

    Raises:
        CheckpointError: no checkpoint of a model we know, or it is broken; the text lists what is wrong.
        ConfigError: the name is no folder and cannot be fetched, or an override does not fit.
    """
    from mmret.models import MODELS

    folder = Path(checkpoint).expanduser()
    if folder.is_file():  # released VLMo and BEiT weights are single files
        return MODELS["vlmo"].load(folder, **overrides).eval()
    if not folder.is_dir():
        folder = local_folder(str(checkpoint), "checkpoint", weights=True)
    if not (folder / "config.json").is_file() and (folder / "model" / "config.json").is_file():
        folder = folder / "model"  # a stage's folder
    if (folder / "adapter_config.json").is_file():  # peft's layout: adapters of VLM2Vec, whose base lies elsewhere
        return MODELS["vlm2vec"].load(folder, **overrides).eval()
    settings = read_config(folder)
    name = settings.get("mmret_model") or PUBLISHED.get(str(settings.get("model_type")))
    if name not in MODELS:
        found = settings.get("mmret_model") or settings.get("model_type")
        known = ", ".join([*MODELS, *(f"published {kind}" for kind in PUBLISHED)])
        raise CheckpointError(f"{folder}/config.json: a '{found}' model; known: {known}")
    return MODELS[name].load(folder, **overrides).eval()
