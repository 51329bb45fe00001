"""A run's folder on disk: whose it is, which stages are finished, and by which settings."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from mmret.errors import ConfigError, EnvironmentProblem
from mmret.recipe import resolve_to_yaml, stage_model_config
from mmret.recipe.schema import Recipe, Stage

FREE = {
    "trainer": (
        "devices",
        "num_nodes",
        "accelerator",
        "strategy",
        "log_every",
        "loggers",
        "checkpoint_every",
        "evaluate_every",
        "keep_best",
        "num_best",
    ),
    "data": ("num_workers",),
}
"""Settings that may change between a run and its continuation: they do not change what is learnt."""


def claim(out: Path, recipe: Recipe) -> None:
    """Write the resolved recipe into the run's folder."""
    if rank_zero_only.rank != 0:
        return
    if out.exists() and not (out / "recipe.yaml").exists() and any(entry.name != "slurm" for entry in out.iterdir()):
        raise ConfigError(f"{out} exists and is no run's folder; choose another: out=runs/NAME")
    _write(out / "recipe.yaml", resolve_to_yaml(recipe))
    _write(out / "command.json", json.dumps({"argv": sys.argv[1:]}))


def _write(path: Path, text: str) -> None:
    """The whole file or none: other ranks may be reading it, and the process may be killed."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text)
        os.replace(temporary, path)
    except OSError as error:
        raise EnvironmentProblem(
            f"{path.parent} cannot be written ({error.strerror}); make room or give yourself the rights, or choose "
            "out=FOLDER"
        ) from error


def finished(folder: Path, chain: str, stage: Stage, recipe: Recipe) -> bool:
    """Is the stage complete, as this recipe wants it?

    Raises:
        ConfigError: it was begun or finished with other settings.
    """
    marker = folder / "stage.json"
    if not marker.exists():
        started = folder / "settings.json"
        settings = settings_of(recipe, stage)
        if started.exists() and json.loads(started.read_text()) != settings:
            raise ConfigError(_differs(folder, json.loads(started.read_text()), settings))
        if rank_zero_only.rank == 0:
            _write(started, json.dumps(settings))
        return False
    record = json.loads(marker.read_text())
    if record["fingerprint"] != chain:
        raise ConfigError(_differs(folder, record["settings"], settings_of(recipe, stage)))
    return True


def _differs(folder: Path, old: dict[str, Any], new: dict[str, Any]) -> str:
    keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    changes = "; ".join(f"{key}: {old.get(key)!r} there, {new.get(key)!r} now" for key in keys[:5])
    return (
        f"{folder} was trained by another recipe ({changes or 'an earlier stage differs'}). "
        "Give this run a folder of its own (out=runs/NAME), or train all anew with --fresh."
    )


def settings_of(recipe: Recipe, stage: Stage) -> dict[str, Any]:
    """All that decides what a stage learns, flat, as JSON."""
    tree = {
        "seed": recipe.seed,
        "model": asdict(stage_model_config(recipe, stage)),
        "stage": asdict(stage),
        "trainer": asdict(recipe.trainer),
    }
    tree["stage"].pop("model")
    tree["stage"]["objectives"] = {name: asdict(config) for name, config in stage.objectives.items()}
    for key in FREE["trainer"]:
        tree["trainer"].pop(key)
    for key in FREE["data"]:
        tree["stage"]["data"].pop(key)
    return json.loads(json.dumps(_flat(tree), default=str))


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict) or not tree:
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def stage_fingerprint(recipe: Recipe, stage: Stage, chain: str) -> str:
    """Identity of a stage's result: its settings and those of all stages before it (`chain`)."""
    text = chain + json.dumps(settings_of(recipe, stage), sort_keys=True)
    return blake2b(text.encode(), digest_size=12).hexdigest()
