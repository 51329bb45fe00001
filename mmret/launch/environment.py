"""What `fabric run`, torchrun and srun say about devices and nodes: taken into the recipe, or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmret.errors import EnvironmentProblem
from mmret.recipe import LoadedRecipe, Override, RecipeError, read_recipe
from mmret.recipe.problem import Origin, Problem
from mmret.recipe.schema import TrainerConfig

FABRIC = {
    "LT_DEVICES": "devices",
    "LT_NUM_NODES": "num_nodes",
    "LT_ACCELERATOR": "accelerator",
    "LT_STRATEGY": "strategy",
    "LT_PRECISION": "precision",
}
"""What `fabric run` tells its processes, and the trainer key that it means. Lightning's Trainer does not read it."""
SAME = {"32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed", "cuda": "gpu", "-1": "auto"}
"""Other words for the same thing."""


def load_for_launch(path: str | Path, overrides: Sequence[str | Override], environ: Mapping[str, str]) -> LoadedRecipe:
    """The recipe as this process group runs it: what the launcher said stands in `trainer`.

    Raises:
        RecipeError: the recipe is broken, or says something else than `fabric run` was told.
        EnvironmentProblem: more or fewer processes were started than the trainer would use.
    """
    loaded = read_recipe(path, overrides)
    if "LT_CLI_USED" in environ:
        told = _fabric(loaded, environ)
    else:
        told = _unset_only(loaded, _counts(environ))
    if told:
        loaded = read_recipe(path, [*overrides, *told])
    check_process_group(loaded.recipe.trainer, environ)
    return loaded


def check_process_group(trainer: TrainerConfig, environ: Mapping[str, str]) -> None:
    """Refuse to start N independent jobs, or to wait for processes that nobody started.

    Raises:
        EnvironmentProblem: the number of processes is not devices x nodes, or two launchers are nested.
    """
    tasks, world = _tasks(environ), _number(environ, "WORLD_SIZE")
    elastic = "TORCHELASTIC_RUN_ID" in environ
    if elastic and tasks is not None and tasks > 1 and _in_srun(environ):
        raise EnvironmentProblem(
            f"torchrun (or fabric run) inside srun with {tasks} tasks: both would start processes, and SLURM could not "
            "requeue the job. Use one: srun mmret run RECIPE (one task for each device), or torchrun in one task"
        )
    if not elastic and tasks is not None and tasks > 1 and not _in_srun(environ):
        raise EnvironmentProblem(
            f"SLURM allocated {tasks} tasks, but this process was not started by srun and would wait for the others. "
            "Write: srun mmret run RECIPE"
        )
    if trainer.devices == "auto":  # as many as Lightning finds; SLURM's own check compares
        return
    wanted = int(trainer.devices) * trainer.num_nodes
    by_slurm = tasks is not None and not elastic
    who, started = ("SLURM", tasks) if by_slurm else ("the launcher", world)
    if started is not None and started != wanted:
        how = f" (--ntasks-per-node={trainer.devices} --nodes={trainer.num_nodes}, srun mmret run RECIPE)"
        raise EnvironmentProblem(
            f"{who} started {started} process{'es' if started > 1 else ''}, but trainer.devices {trainer.devices} x "
            f"trainer.num_nodes {trainer.num_nodes} = {wanted}. Set trainer.devices (of each node) and "
            f"trainer.num_nodes to a product of {started}, or start {wanted}{how if by_slurm else ''}"
        )


def process_rank(environ: Mapping[str, str]) -> int:
    """This process's number among all, as far as the launcher has said it; 0 if nobody did."""
    for name in ("RANK", *(["SLURM_PROCID"] if _in_srun(environ) else []), "LOCAL_RANK"):
        rank = _number(environ, name)
        if rank is not None:
            return rank
    return 0


def process_count(environ: Mapping[str, str]) -> int:
    """How many processes a launcher started to do this together; 1 if none did."""
    world = _number(environ, "WORLD_SIZE")
    if world is None and _in_srun(environ) and _tasks(environ) is not None:
        world = _number(environ, "SLURM_STEP_NUM_TASKS") or _tasks(environ)
    return world or 1


def _fabric(loaded: LoadedRecipe, environ: Mapping[str, str]) -> list[Override]:
    told, problems = [], []
    for variable, key in FABRIC.items():
        value = environ.get(variable)
        if value is None:
            continue
        if key == "devices" and _has_gaps(value):
            text = (
                f"fabric run --devices {value} names single devices; mmret takes the first ones it sees. Write: "
                f"CUDA_VISIBLE_DEVICES={value.strip(',')} fabric run --devices {len(_listed(value))}"
            )
            problems.append(Problem(Origin("fabric run"), ("trainer", key), text))
            continue
        if key == "devices" and not value.isdigit():  # auto, -1, or a list of device numbers: how many came of it?
            value = environ.get("LOCAL_WORLD_SIZE", "auto")
        value, here = SAME.get(value, value), str(getattr(loaded.recipe.trainer, key))
        if value == "auto" or value == SAME.get(here, here):
            continue
        path = ("trainer", key)
        if loaded.origin(path).source != "default" and here != "auto":
            text = f"is {here} here, but fabric run says {value}: make them equal, or leave one out"
            problems.append(Problem(loaded.origin(path), path, text))
        told.append(Override(f"trainer.{key}={value}", "fabric run"))
    if problems:
        raise RecipeError(problems)
    return told


def _listed(devices: str) -> list[str]:
    return [number.strip() for number in devices.split(",") if number.strip()]


def _has_gaps(devices: str) -> bool:
    """Of a list of device numbers, as Lightning reads it: it is not 0, 1, 2, ..."""
    return "," in devices and _listed(devices) != [str(number) for number in range(len(_listed(devices)))]


def _unset_only(loaded: LoadedRecipe, told: Sequence[Override]) -> list[Override]:
    """Of what a launcher says, the part on which the recipe says nothing; the rest is compared afterwards."""

    def is_open(override: Override) -> bool:
        key = override.text.partition("=")[0].removeprefix("trainer.")
        unset: Origin = loaded.origin(("trainer", key))
        return unset.source == "default" or getattr(loaded.recipe.trainer, key) == "auto"

    return [override for override in told if is_open(override)]


def _counts(environ: Mapping[str, str]) -> list[Override]:
    """Devices and nodes that torchrun or srun started."""
    world, local = _number(environ, "WORLD_SIZE"), _number(environ, "LOCAL_WORLD_SIZE")
    if world and local:
        return _told("torchrun", local, world // local)
    tasks, nodes = _tasks(environ), _number(environ, "SLURM_NNODES") or 1
    if tasks and tasks > 1 and _in_srun(environ) and tasks % nodes == 0:
        return _told("srun", tasks // nodes, nodes)
    return []


def _told(who: str, devices: int, nodes: int) -> list[Override]:
    return [Override(f"trainer.devices={devices}", who), Override(f"trainer.num_nodes={nodes}", who)]


def _in_srun(environ: Mapping[str, str]) -> bool:
    """A batch script has most of SLURM's variables too, but no step."""
    return "SLURM_STEP_ID" in environ or "SLURM_STEP_NUM_TASKS" in environ


def _tasks(environ: Mapping[str, str]) -> int | None:
    """World size to Lightning, wherever this is set (it then starts no process of its own); None outside SLURM."""
    # Lightning takes these names for a shell in an allocation and ignores SLURM there; so do we.
    if environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return None
    return _number(environ, "SLURM_NTASKS")


def _number(environ: Mapping[str, str], name: str) -> int | None:
    value = environ.get(name, "")
    return int(value) if value.isdigit() else None
