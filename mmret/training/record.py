"""A run's folder on disk: whose it is, which stages are finished, and by which settings."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any

from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities import rank_zero_only

from mmret.errors import ConfigError, EnvironmentProblem
from mmret.recipe import resolve_to_yaml, stage_model_config
from mmret.recipe.schema import Recipe, Stage
from mmret.training.lock import LOCK, only_run_in

CHAIN = "fingerprint"
"""In settings.json, beside the settings."""
KEPT = ("slurm", LOCK)
"""What lies in a run's folder before the run does."""
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


@contextmanager
def claimed(out: Path, recipe: Recipe, fresh: bool = False) -> Iterator[None]:
    """The run's folder with the resolved recipe in it, for this run alone while inside.

    Args:
        fresh: what an earlier run left there goes first; SLURM jobs' frozen code and logs stay.

    Raises:
        ConfigError: the folder is no run's.
        EnvironmentProblem: another process trains there, or it cannot be written.
    """
    if not _is_first():
        yield
        return
    known = (out / "recipe.yaml").exists()
    if out.exists() and not known and any(entry.name not in KEPT for entry in out.iterdir()):
        raise ConfigError(f"{out} exists and is no run's folder; choose another: out=runs/NAME")
    with only_run_in(out):
        if fresh and known:
            for entry in [entry for entry in out.iterdir() if entry.name not in KEPT]:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        _write(out / "recipe.yaml", resolve_to_yaml(recipe))
        _write(out / "command.json", json.dumps({"argv": sys.argv[1:]}))
        yield


def _is_first() -> bool:
    """Rank 0 of all; a node's first process says 0, too, until there is a process group."""
    return rank_zero_only.rank == 0 and LightningEnvironment().node_rank() == 0


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
        if started.exists():
            before = json.loads(started.read_text())
            begun = before.pop(CHAIN, chain)  # with the stages that went before
            if before != settings or begun != chain:
                raise ConfigError(_differs(folder, before, settings))
        if rank_zero_only.rank == 0:
            _write(started, json.dumps({**settings, CHAIN: chain}))
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
