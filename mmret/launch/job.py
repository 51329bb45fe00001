"""A job as a batch script: which resources, which recipe on how many devices, what srun starts."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from mmret.errors import ConfigError
from mmret.recipe import LoadedRecipe, Override, RecipeError, read_recipe
from mmret.recipe.problem import Problem
from mmret.recipe.schema import Recipe

TEMPLATE = Path(__file__).with_name("job.sbatch")
NOTICE_S = 180
"""Seconds before the time limit at which SLURM signals the tasks; it may do so up to 60 s earlier."""
_WRITTEN = (
    *("job-name", "nodes", "ntasks", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "time", "array"),
    *("chdir", "output", "open-mode", "requeue", "no-requeue", "signal"),
)
"""Options that the script's own would contradict."""
_NOT_SLURM = ("bash", "interactive")
"""Job names that Lightning takes for a shell."""


@dataclass(frozen=True)
class Resources:
    """What a job asks SLURM for; None leaves it to the recipe, or to the cluster."""

    nodes: int | None = None
    gpus_per_node: int | None = None
    tasks_per_node: int | None = None
    cpus_per_task: int | None = None
    time: str | None = None
    notice_s: int = NOTICE_S
    """Seconds for a checkpoint before the time limit."""
    more: tuple[tuple[str, str], ...] = ()
    """Further options of sbatch: (("partition", "gpu"), ("exclusive", ""))."""


@dataclass(frozen=True)
class Job:
    """What `render` writes."""

    name: str
    nodes: int
    tasks_per_node: int
    resources: Resources
    arguments: str
    """What follows `mmret`, as bash reads it."""
    cpus_per_task: int | None = None
    array: str | None = None
    trains: bool = True

    def __post_init__(self) -> None:
        if self.name in _NOT_SLURM:
            raise ConfigError(f"--name {self.name}: a job of that name counts as a shell and trains on one device only")
        if not self.name.isprintable():
            raise ConfigError(f"--name {self.name!r}: want one line of text")
        for name, _ in self.resources.more:
            if name in _WRITTEN:
                raise ConfigError(f"--sbatch={name}: the script says that itself, further down, and would win")
            if re.fullmatch("[a-z][a-z0-9-]*", name) is None:
                raise ConfigError(f"--sbatch={name}: want a long option: --sbatch=exclusive, --sbatch=gres=nvme:1")


def resources_in_recipe(path: str, overrides: Sequence[str], resources: Resources) -> LoadedRecipe:
    """The recipe with `trainer.num_nodes`, `devices` and `accelerator` as the job has them.

    Raises:
        RecipeError: the recipe is broken, or says something else than the options.
        ConfigError: neither says how many devices a node has.
    """
    loaded = read_recipe(path, overrides)
    gpus, tasks = resources.gpus_per_node, resources.tasks_per_node
    if gpus and tasks and gpus != tasks:
        raise ConfigError(f"--gpus-per-node {gpus} and --tasks-per-node {tasks}: a task drives one GPU; leave one out")
    told: list[tuple[str, object, str]] = []
    if resources.nodes:
        told.append(("num_nodes", resources.nodes, "--nodes"))
    if gpus or tasks:
        told.append(("devices", gpus or tasks, "--gpus-per-node" if gpus else "--tasks-per-node"))
    if gpus:
        told.append(("accelerator", "gpu", "--gpus-per-node"))
    _check_time(resources)
    problems = []
    for key, value, option in told:
        path_, here = ("trainer", key), getattr(loaded.recipe.trainer, key)
        same = here == value or here == "auto" or (key == "accelerator" and here == "cuda")
        if loaded.origin(path_).source != "default" and not same:
            said = f"{option} means {value}" if key == "accelerator" else f"{option} says {value}"
            problems.append(Problem(loaded.origin(path_), path_, f"is {here} here, but {said}: leave one out"))
    if problems:
        raise RecipeError(problems)
    loaded = read_recipe(path, [*overrides, *(Override(f"trainer.{key}={value}", who) for key, value, who in told)])
    trainer = loaded.recipe.trainer
    if trainer.devices == "auto" or (trainer.accelerator == "auto" and not gpus):
        raise ConfigError(
            f"{path}: how many devices has a node? Say --gpus-per-node N; on processors, trainer.accelerator=cpu and "
            "--tasks-per-node N"
        )
    return loaded


def _check_time(resources: Resources) -> None:
    """SLURM signals 0 to 60 s before the notice; a start that ends there at once would go round in circles."""
    if resources.time is None:
        return
    limit, early = seconds_of(resources.time), resources.notice_s + 60
    if limit <= early:
        raise ConfigError(
            f"--time {resources.time} leaves no time to train: SLURM signals up to {early} s before the limit "
            "(--notice says how long a checkpoint may take)"
        )


def seconds_of(time: str) -> int:
    """Of sbatch's `--time`: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S.

    Raises:
        ConfigError: it is none of these.
    """
    days, dash, rest = time.partition("-")
    parts = rest.split(":") if dash else days.split(":")
    if not all(part.isdigit() for part in (*parts, *([days] if dash else []))) or len(parts) > 3:
        raise ConfigError(f"--time {time}: want minutes, H:M:S or D-H:M:S")
    numbers = [int(part) for part in parts]
    if dash or len(numbers) == 3:
        hours, minutes, seconds = [*numbers, 0, 0][:3]
        return (int(days) * 24 if dash else 0) * 3600 + hours * 3600 + minutes * 60 + seconds
    return numbers[0] * 60 + (numbers[1] if len(numbers) > 1 else 0)


def job_of_recipes(
    name: str, recipes: Sequence[Recipe], resources: Resources, arguments: str, array: str | None
) -> Job:
    """One task for each device; processors for the task itself and for the most loader workers of any recipe."""
    recipe, workers = recipes[0], max(stage.data.num_workers for recipe in recipes for stage in recipe.stages)
    tasks = int(recipe.trainer.devices)
    if recipe.trainer.accelerator != "cpu" and resources.gpus_per_node is None:
        resources = replace(resources, gpus_per_node=tasks)
    cpus = resources.cpus_per_task or workers + 1
    return Job(name, recipe.trainer.num_nodes, tasks, resources, arguments, cpus, array)


def render(job: Job, frozen: Path, cwd: Path, commit: str = "") -> str:
    """The script's text.

    Args:
        frozen: folder of code and recipe; the script and its logs lie there.
        cwd: where relative paths of the recipe begin.
        commit: of the code, for people.
    """
    asked = job.resources
    options: list[tuple[str, str | None]] = [
        ("job-name", job.name),
        ("nodes", str(job.nodes)),
        ("ntasks-per-node", str(job.tasks_per_node)),
        ("gpus-per-node", str(asked.gpus_per_node) if asked.gpus_per_node else None),
        ("cpus-per-task", str(job.cpus_per_task) if job.cpus_per_task else None),
        ("time", asked.time),
        ("array", job.array),
        *asked.more,
        ("chdir", str(cwd)),
        # SLURM replaces %j and the like in the folder's name, too.
        ("output", f"{str(frozen).replace('%', '%%')}/{'%A_%a.log' if job.array else '%j.log'}"),
    ]
    options += [("open-mode", "append"), ("requeue", "")]
    if job.trains:
        # To the tasks (not B:, the script); mmret saves and requeues then.
        options.append(("signal", f"USR1@{asked.notice_s}"))
    # Since 22.05 srun does not take --cpus-per-task from sbatch.
    srun = ["--kill-on-bad-exit=1", *([f"--cpus-per-task={job.cpus_per_task}"] if job.cpus_per_task else [])]
    job_id = "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}" if job.array else "$SLURM_JOB_ID"
    template = Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(TEMPLATE.read_text())
    return template.render(
        title=job.name,
        script=shlex.quote(str(frozen / "job.sbatch")),
        options=[(name, shlex.quote(value) if value else "") for name, value in options if value is not None],
        commit=commit,
        frozen=shlex.quote(str(frozen)),
        srun=srun,
        python=shlex.quote(sys.executable),
        arguments=job.arguments,
        requeues=job.trains,
        job_id=job_id,
    )
