"""The heads of a stage's objectives, kept beside the model that they were trained with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmret.errors import CheckpointError, ConfigError
from mmret.models.vlmo import from_published, read_container
from mmret.models.weights import load_strictly
from mmret.objectives.objective import Objective
from mmret.objectives.published import published_configs

STATE, CONFIGS = "objectives.safetensors", "objectives.json"


def save_objectives(objectives: nn.ModuleDict, folder: str | Path) -> None:
    """Write objectives.json (their configurations by name) and objectives.safetensors (their parameters, if any)."""
    configs = {name: asdict(objective.config) for name, objective in objectives.items()}  # pyright: ignore[reportArgumentType]
    _write(configs, objectives.state_dict(), Path(folder))


def copy_objectives(source: str | Path, folder: str | Path) -> dict[str, Tensor]:
    """Write into `folder` what stands beside the model of another checkpoint, unbuilt; gives the parameters.

    Args:
        source: a folder, or a published VLMo file. One without objectives leaves `folder` without.
    """
    source, state = Path(source), stored_state(source)
    if source.is_file():
        configs = {name: asdict(config) for name, config in published_configs(state).items()}
    else:
        configs = json.loads((source / CONFIGS).read_text()) if (source / CONFIGS).is_file() else {}
    if configs:
        _write(configs, state, Path(folder))
    return state


def stored_state(checkpoint: str | Path) -> dict[str, Tensor]:
    """Parameters by "objective.parameter", of a folder or of a published VLMo file; empty where it holds none."""
    checkpoint = Path(checkpoint)
    if checkpoint.is_file():
        return from_published(read_container(checkpoint)).objectives
    path = checkpoint / STATE
    return load_file(path) if path.is_file() else {}


def load_objectives(checkpoint: str | Path, model: Any) -> nn.ModuleDict:
    """The objectives beside a model, with their parameters; empty where there are none.

    Args:
        checkpoint: a folder with what `save_objectives` wrote, or a published VLMo file.
        model: the retriever of the same checkpoint; heads have its sizes.

    Raises:
        CheckpointError: an objective is not known here, or its parameters do not fit the model.
    """
    checkpoint = Path(checkpoint)
    state = stored_state(checkpoint)
    make = published_configs(state) if checkpoint.is_file() else _stored_configs(checkpoint / CONFIGS)
    objectives: dict[str, Objective] = {}
    for name, config in make.items():
        try:
            objectives[name] = _class_of(config.name).for_model(config, model)
        except ConfigError as error:
            raise CheckpointError(f"{checkpoint}: {name}: {error}") from error
    loaded = nn.ModuleDict(objectives)
    load_strictly(loaded, state, f"{checkpoint}: what its objectives learnt")
    return loaded


def _write(configs: Mapping[str, Any], state: Mapping[str, Tensor], folder: Path) -> None:
    (folder / CONFIGS).write_text(json.dumps(configs, indent=1))
    if state:
        save_file({key: value.detach().cpu().contiguous().clone() for key, value in state.items()}, folder / STATE)


def _stored_configs(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    configs = {}
    for name, config in json.loads(path.read_text()).items():
        try:
            configs[name] = _class_of(config.get("name")).Config(**config)
        except (TypeError, ConfigError) as error:
            raise CheckpointError(f"{path}: {name}: {error}") from error
    return configs


def _class_of(name: Any) -> type[Objective]:
    from mmret.objectives import OBJECTIVES

    if name not in OBJECTIVES:
        raise ConfigError(f"unknown objective '{name}'; known: {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]
