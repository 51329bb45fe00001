"""`mmret check BENCH`: what each variant of a bench needs, before any of them runs."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from mmret.bench import ResolvedVariant, read_bench, resolve_variants
from mmret.bench.target import primary_key
from mmret.bench.trial import planned_steps
from mmret.cli.console import console, say, write_json
from mmret.cli.estimate import FORMULA, StageCost, estimate
from mmret.cli.inventory import take_inventory
from mmret.recipe import Problem, RecipeError


def check_bench(file: str, overrides: list[str], as_json: bool) -> int:
    """A line for each variant on stderr, or with `as_json` all on stdout. What is missing on disk is told.

    Raises:
        ConfigError: the bench or one of its recipes is wrong, or a stage does not fit its model.
    """
    loaded = read_bench(file, overrides)
    bench = loaded.bench
    variants = resolve_variants(loaded)
    primary = primary_key(bench, variants[0].recipe.evaluation.benchmarks)
    problems: list[Problem] = []
    missing: dict[str, None] = {}
    needs = []
    for variant in variants:
        results = [estimate(variant.loaded, index) for index in range(len(variant.recipe.stages))]
        problems += [problem for _, found in results for problem in found]
        with _within(variant.environ):
            missing |= dict.fromkeys(take_inventory(variant.recipe).missing)
        needs.append(_needs(variant, [cost for cost, _ in results], planned_steps(bench, variant)))
    if as_json:
        told = {"bench": bench.name, "size": bench.size, "seeds": bench.seeds, "primary": primary}
        write_json({**told, "runs": len(needs) * len(bench.seeds), "variants": needs, "missing": [*missing]})
    else:
        count = len(needs) * len(bench.seeds)
        budget = f"{bench.budget.amount:,.0f} {bench.budget.kind} each" if bench.budget else "as the recipes say"
        say(f"{bench.name} ({bench.size}): {count} runs, {len(bench.seeds)} of each variant; budget: {budget}", "bold")
        say(f"judged by {primary}; into {bench.out}")
        _print(needs)
        say(FORMULA, "dim")
        if missing:
            say("\nmissing on this machine:", "yellow")
        for line in _folded(missing):
            say(f"  {line}", "yellow")
    if problems:
        raise RecipeError(problems)
    return 0


def _needs(variant: ResolvedVariant, costs: list[StageCost], steps: list[int] | None) -> dict[str, Any]:
    """Sums over stages, and of memory the largest stage's."""
    trainer, stages = variant.recipe.trainer, variant.recipe.stages
    known = [cost for cost in costs if not cost.unknown]
    memories = [cost.memory for cost in known if cost.memory is not None]
    complete = len(memories) == len(costs) and all(memory.activations is not None for memory in memories)
    return {
        "name": variant.name,
        "model": variant.recipe.model.name,
        "parameters": max((cost.total for cost in known), default=None),
        "trained": max((cost.trained for cost in known), default=None),
        "devices": trainer.devices,
        "nodes": trainer.num_nodes,
        "memory_bytes": max((memory.total for memory in memories), default=None),
        "memory_complete": complete,
        "memory_without": "; ".join(dict.fromkeys(memory.why for memory in memories if memory.why)) or None,
        "steps": None if steps is None else {stage.name: number for stage, number in zip(stages, steps)},
        "samples": None if steps is None else sum(n * stage.data.batch_size for stage, n in zip(stages, steps)),
        "data_differs": variant.data_differs,
        "environ": dict(variant.environ),
        "unknown": "; ".join(dict.fromkeys(cost.unknown for cost in costs if cost.unknown)) or None,
    }


def _print(needs: list[dict[str, Any]]) -> None:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    heads = ("variant", "parameters", "trained", "devices", "memory each", "steps", "samples", "data")
    for index, title in enumerate(heads):
        table.add_column(title, justify="left" if index == 0 else "right", overflow="fold")
    for need in needs:
        memory = need["memory_bytes"]
        about = "?" if memory is None else f"{'' if need['memory_complete'] else '> '}{_size(memory)}"
        devices = f"{need['devices']} x {need['nodes']}" if need["nodes"] > 1 else str(need["devices"])
        steps = need["steps"]
        row = [need["name"], _count(need["parameters"]), _count(need["trained"]), devices, about]
        row += ["by a trial" if steps is None else f"{sum(steps.values()):,}", _count(need["samples"])]
        table.add_row(*map(Text, [*row, "other" if need["data_differs"] else "same"]))
    console.print(table)
    for said, names in _grouped(needs, "unknown").items():
        say(f"{names}: {said}", "yellow")
    for said, names in _grouped(needs, "memory_without").items():
        say(f"{names}: > leaves out the activations of a stage ({said})", "yellow")


def _grouped(needs: list[dict[str, Any]], key: str) -> dict[str, str]:
    """What is said under `key` -> the variants that it is said of: a bench's often lack the same file."""
    said = dict.fromkeys(need[key] for need in needs if need[key])
    names = {text: [need["name"] for need in needs if need[key] == text] for text in said}
    return {text: ", ".join(own) if len(own) < len(needs) or len(own) == 1 else "all" for text, own in names.items()}


def _folded(missing: Collection[str]) -> list[str]:
    """One line for each collection, with all its files."""
    files: dict[str, list[str]] = {}
    for line in missing:
        name, _, file = line.partition(": ")
        files.setdefault(name if name.startswith(("data ", "benchmark ")) else line, []).append(file)
    return [f"{name}: {', '.join(found)}" if name not in missing else name for name, found in files.items()]


@contextmanager
def _within(environ: Mapping[str, str]) -> Iterator[None]:
    """Data specs are read as a variant's processes read them."""
    before = {name: os.environ.get(name) for name in environ}
    os.environ.update(environ)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _size(number: float) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.1f} MiB"


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"
