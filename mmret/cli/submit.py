"""`mmret submit RECIPE --nodes N --gpus-per-node G`: a SLURM job of frozen recipe and code; --print submits nothing."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

from mmret.cli.arguments import count
from mmret.cli.console import say, write
from mmret.errors import ConfigError
from mmret.launch.array import array_numbers, check_outs, check_resources, tasks_of, variant_files
from mmret.launch.freeze import Frozen, freeze
from mmret.launch.job import NOTICE_S, Job, Resources, job_of_recipes, render, resources_in_recipe
from mmret.launch.slurm import sbatch
from mmret.recipe import Recipe

SUMMARY = "send a recipe to SLURM: batch script, frozen recipe and code, requeue; --variants and --array for many"
_DIRECT = ("partition", "account", "qos", "mem", "constraint", "dependency")
"""Options handed to sbatch as they are; --sbatch takes all others."""


def configure(parser: argparse.ArgumentParser) -> None:
    """RECIPE and overrides, resources, what to submit."""
    parser.add_argument(
        "words",
        metavar="RECIPE KEY=VALUE",
        nargs="*",
        help="as for mmret run; with an array, {array} and {variant} stand for the task's number and recipe",
    )
    asked = parser.add_argument_group("resources")
    asked.add_argument("--nodes", type=count, metavar="N", help="default: the recipe's trainer.num_nodes")
    asked.add_argument("--gpus-per-node", type=count, metavar="N", help="one task each; default: trainer.devices")
    asked.add_argument("--tasks-per-node", type=count, metavar="N", help="processes on a node, without GPUs")
    asked.add_argument("--cpus-per-task", type=count, metavar="N", help="default: data.num_workers + 1")
    asked.add_argument("--time", metavar="D-HH:MM:SS", help="limit of one start; a run goes on after it")
    asked.add_argument(
        "--notice", type=count, default=NOTICE_S, metavar="SECONDS", help=f"for the last checkpoint ({NOTICE_S})"
    )
    for name in _DIRECT:
        asked.add_argument(f"--{name}", metavar="TEXT", help="as for sbatch")
    asked.add_argument("--sbatch", action="append", default=[], metavar="OPTION", help="any other: --sbatch=exclusive")
    what = parser.add_argument_group("jobs")
    what.add_argument("--name", metavar="NAME", help="of the job; default: the recipe's")
    what.add_argument("--array", metavar="0-15", help="many tasks: {array} in overrides, or $SLURM_ARRAY_TASK_ID")
    what.add_argument("--variants", action="store_true", help="one task for each recipe; a folder stands for its files")
    what.add_argument("--command", metavar="TEXT", help="another verb instead: 'mmret data build ... --slice slurm'")
    what.add_argument("--print", action="store_true", help="freeze and write the script, submit nothing")


def run(args: argparse.Namespace) -> int:
    """Freeze, write the script, submit it."""
    frozen, job = _command(args) if args.command else _recipes(args)
    script = frozen.folder / "job.sbatch"
    script.write_text(render(job, frozen.folder, Path.cwd(), frozen.commit))
    if args.print:
        write(script.read_text())
        say(f"not submitted; to do so: sbatch {shlex.quote(str(script))}")
        return 0
    number = sbatch(script)
    record = frozen.folder / "submitted.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "job": number}, indent=1))
    log = f"{number}_*.log" if job.array else f"{number}.log"
    say(f"job {number}: {script}", "green")
    say(f"its log: {frozen.folder / log}")
    return 0


def _resources(args: argparse.Namespace) -> Resources:
    more = [(name, value) for name in _DIRECT if (value := getattr(args, name))]
    for text in args.sbatch:
        name, _, value = text.removeprefix("--").partition("=")
        more.append((name, value))
    return Resources(
        args.nodes, args.gpus_per_node, args.tasks_per_node, args.cpus_per_task, args.time, args.notice, tuple(more)
    )


def _recipes(args: argparse.Namespace) -> tuple[Frozen, Job]:
    overrides = [word for word in args.words if "=" in word or word.startswith("~")]
    named = [word for word in args.words if word not in overrides]
    if not named:
        raise ConfigError("mmret submit: which recipe? (or --command 'mmret ...')")
    if len(named) > 1 and not args.variants:
        raise ConfigError(f"{len(named)} recipes ({', '.join(named)}): --variants makes each a task of one array")
    resources = _resources(args)
    tasks = tasks_of(variant_files(named) if args.variants else named, overrides, args.array, args.variants)
    recipes: dict[int, Recipe] = {
        task.number: resources_in_recipe(task.path, task.overrides, resources).recipe for task in tasks
    }
    check_outs(recipes)
    check_resources(recipes)
    first = recipes[tasks[0].number]
    many = args.variants or args.array is not None
    if not many:
        name = args.name or first.name
        job = job_of_recipes(name, [*recipes.values()], resources, 'run "$FROZEN/recipe.yaml"', None)
        return freeze(Path(first.out) / "slurm", {"recipe.yaml": first}, _argv(args)), job
    name = args.name or (Path(named[0]).stem if len(named) == 1 else f"{first.name}-variants")
    files = {f"recipes/{number}.yaml": recipe for number, recipe in recipes.items()}
    array = args.array or f"0-{len(tasks) - 1}"
    job = job_of_recipes(name, [*recipes.values()], resources, 'run "$FROZEN/recipes/$SLURM_ARRAY_TASK_ID.yaml"', array)
    return freeze(Path("runs/slurm") / name, files, _argv(args)), job


def _command(args: argparse.Namespace) -> tuple[Frozen, Job]:
    """Any other verb; its text is left to bash, which knows $SLURM_ARRAY_TASK_ID."""
    program, _, rest = args.command.strip().partition(" ")
    verb = rest.split()[0] if rest.split() else ""
    if program != "mmret" or not verb:
        raise ConfigError(f"--command {args.command!r}: want 'mmret VERB ...', which runs with the frozen code")
    if verb == "run":
        raise ConfigError("--command 'mmret run ...': mmret submit RECIPE does that, knows its devices and requeues it")
    if args.words or args.variants:
        raise ConfigError(f"--command stands for itself; what are {', '.join(args.words) or '--variants'} beside it?")
    if args.gpus_per_node and args.tasks_per_node is None and args.gpus_per_node > 1:
        raise ConfigError("--command: how many processes share the GPUs? Say --tasks-per-node")
    if args.array:
        array_numbers(args.array)
    name = args.name or verb
    nodes, tasks = args.nodes or 1, args.tasks_per_node or 1
    job = Job(name, nodes, tasks, _resources(args), rest.strip(), args.cpus_per_task, args.array, trains=False)
    return freeze(Path("runs/slurm") / name, {}, _argv(args)), job


def _argv(args: argparse.Namespace) -> list[str]:
    given = {f"--{key.replace('_', '-')}": value for key, value in vars(args).items() if key != "words" and value}
    return ["submit", *args.words, *(name if value is True else f"{name}={value}" for name, value in given.items())]
