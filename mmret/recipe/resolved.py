"""A recipe as loaded, back to YAML, to a hash, and to the model section of one stage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from hashlib import blake2b
from pathlib import PurePath
from typing import Any

from omegaconf import OmegaConf

from mmret.recipe.interpolation import escape
from mmret.recipe.schema import Recipe, Stage
from mmret.recipe.yaml_marks import dump_yaml

WITHOUT_EFFECT: dict[str, tuple[str, ...]] = {
    "": ("name", "out", "gallery"),
    "trainer": (
        "accelerator",
        "devices",
        "num_nodes",
        "strategy",
        "log_every",
        "loggers",
        "checkpoint_every",
        "evaluate_every",
        "keep_best",
        "num_best",
        "threads",
    ),
    "feature_cache": ("folder", "max_gb"),
    "evaluation": ("during_training", "batch_size"),
    "data": ("num_workers",),
}
"""Per section, what `recipe_fingerprint` leaves out: it may differ between runs that give the same model and metrics.

The batches do not depend on ranks or workers, and gradients are exact means over ranks: devices, nodes and strategy
change rounding only. Precision, accumulation (fewer in-batch negatives) and the dtype of cached features stay in.
Weights and data are named, not hashed: the fingerprint says nothing of files that changed under the same name.
"""


def plain(value: Any) -> Any:
    """Dataclasses to mappings, tuples to lists: what YAML and JSON can say."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value) if field.init}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return value.name
    return str(value) if isinstance(value, PurePath) else value


def resolve_to_yaml(recipe: Recipe) -> str:
    """The recipe with every default and interpolation written out; loading it gives an equal recipe."""
    return dump_yaml(escape(plain(recipe)))


def recipe_fingerprint(recipe: Recipe) -> str:
    """24 hex digits that are equal for recipes whose runs give the same result (see `WITHOUT_EFFECT`)."""
    tree = plain(recipe)
    _drop(tree, "")
    for section in ("trainer", "feature_cache", "evaluation"):
        _drop(tree[section], section)
    for stage in tree["stages"]:
        _drop(stage["data"], "data")
        del stage["validation"], stage["validation_batches"]  # measured, not learnt from
        stage["lr_scale"] = list(stage["lr_scale"].items())  # its order counts, unlike that of other mappings
    return blake2b(json.dumps(tree, sort_keys=True).encode(), digest_size=12).hexdigest()


def _drop(section: dict[str, Any] | None, name: str) -> None:
    for key in WITHOUT_EFFECT[name]:
        if section is not None:
            del section[key]


def stage_model_config(recipe: Recipe, stage: Stage) -> Any:
    """The model section with the stage's changes: an instance of the model's Config.

    Raises:
        ConfigError: the changed section contradicts itself.
    """
    config = type(recipe.model)
    merged = OmegaConf.merge(OmegaConf.structured(config), escape(plain(recipe.model)), escape(plain(stage.model)))
    return OmegaConf.to_object(merged)
