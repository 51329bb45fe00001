"""`mmret check RECIPE`: what a run would do, without a GPU or a download."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from mmret.cli.arguments import add_json, add_recipe
from mmret.cli.console import console, say, write_json
from mmret.recipe import LoadedRecipe, RecipeError, Stage, read_recipe, recipe_fingerprint
from mmret.recipe.shipped import shown

if TYPE_CHECKING:
    from mmret.cli.estimate import StageCost
    from mmret.cli.inventory import Inventory, SourceFacts

SUMMARY = "tell what a run would do: parameters, memory, samples, what is missing; no GPU, no download"


def configure(parser: argparse.ArgumentParser) -> None:
    """RECIPE, overrides, --json."""
    add_recipe(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Everything to stderr as tables, or with --json to stdout. What is missing on disk is told, and is no error."""
    # Before any import of the hub's client, which reads it once.
    os.environ["HF_HUB_OFFLINE"] = "1"
    from mmret.bench.read import is_bench

    if is_bench(args.recipe):
        from mmret.cli.check_bench import check_bench

        return check_bench(args.recipe, args.overrides, args.json)
    loaded = read_recipe(args.recipe, args.overrides)
    from mmret.cli.estimate import FORMULA, estimate
    from mmret.cli.inventory import take_inventory
    from mmret.training.vocabulary import class_mismatches

    inventory = take_inventory(loaded.recipe)
    results = [estimate(loaded, index) for index in range(len(loaded.recipe.stages))]
    problems = [problem for _, found in results for problem in found]
    problems += [loaded.problem(path, message) for path, message in class_mismatches(loaded.recipe)]
    costs = [cost for cost, _ in results]
    if args.json:
        write_json(as_json(loaded, costs, inventory, FORMULA))
    else:
        _print(loaded, costs, inventory, FORMULA)
    if problems:
        raise RecipeError(problems)
    return 0


def source_use(stage: Stage, facts: dict[str, SourceFacts]) -> list[dict[str, Any]]:
    """How much of each source a stage reads: share, samples, epochs."""
    total = sum(source.weight for source in stage.data.sources.values())
    used = []
    for name, source in stage.data.sources.items():
        here = facts[name]
        rows = here.rows if source.max_samples is None or here.rows is None else min(here.rows, source.max_samples)
        share = source.weight / total
        samples = stage.steps * stage.data.batch_size * share
        used.append(
            {
                "name": name,
                "share": share,
                "samples": round(samples),
                "rows": rows,
                "epochs": None if rows is None else samples / rows,
                "shards": here.shards,
                "megabytes": here.megabytes,
            }
        )
    return used


def as_json(loaded: LoadedRecipe, costs: list[StageCost], inventory: Inventory, formula: str) -> dict[str, Any]:
    """The whole answer; bytes and counts as numbers, null where something is not known."""
    return {
        "recipe": loaded.recipe.name,
        "file": shown(loaded.path),
        "fingerprint": recipe_fingerprint(loaded.recipe),
        "model": loaded.recipe.model.name,
        "stages": [
            {
                "name": cost.name,
                "steps": cost.steps,
                "batch_size": cost.batch,
                "ranks": cost.ranks,
                "rows_per_rank_and_pass": cost.rows,
                "score_matrix": cost.scores,
                "parameters": None if cost.unknown else cost.total,
                "trained": None if cost.unknown else cost.trained,
                "unknown": cost.unknown or None,
                "modules": [vars(count) for count in cost.modules],
                "lr_scale": [vars(group) for group in cost.groups],
                "memory": None if cost.memory is None else {**vars(cost.memory), "total": cost.memory.total},
                "sources": source_use(stage, inventory.sources),
            }
            for cost, stage in zip(costs, loaded.recipe.stages)
        ],
        "memory_formula": formula,
        "missing": inventory.missing,
    }


def _print(loaded: LoadedRecipe, costs: list[StageCost], inventory: Inventory, formula: str) -> None:
    recipe = loaded.recipe
    say(
        f"{recipe.name}  {shown(loaded.path)}  fingerprint {recipe_fingerprint(recipe)}  model {recipe.model.name}",
        "bold",
    )
    for cost, stage in zip(costs, recipe.stages):
        _print_stage(cost, stage, inventory)
    say("")
    say(formula, "dim")
    if inventory.missing:
        say("\nmissing on this machine:", "yellow")
        for line in inventory.missing:
            say(f"  {line}", "yellow")


def _print_stage(cost: StageCost, stage: Stage, inventory: Inventory) -> None:
    ranks = "ranks counted at the start" if cost.ranks is None else f"{cost.ranks} rank{'s' if cost.ranks > 1 else ''}"
    say(f"\nstage {cost.name}: {cost.steps:,} steps of {cost.batch} queries, {ranks}", "bold")
    rows, columns = cost.scores
    say(f"  one pass of one rank: {cost.rows} queries, score matrix {rows} x {columns} ({_bytes(4 * rows * columns)})")
    _print_table(
        ["source", "share", "samples", "epochs", "rows", "shards"],
        [
            [
                use["name"],
                f"{use['share']:.1%}",
                f"{use['samples']:,}",
                "?" if use["epochs"] is None else f"{use['epochs']:.2f}",
                "not here" if use["rows"] is None else f"{use['rows']:,}",
                "" if use["shards"] is None else str(use["shards"]),
            ]
            for use in source_use(stage, inventory.sources)
        ],
    )
    if cost.unknown:
        say(f"  parameters {cost.unknown}", "yellow")
        return
    _print_table(
        ["module", "parameters", "trained"],
        [[count.name, f"{count.total:,}", f"{count.trained:,}"] for count in cost.modules]
        + [["all", f"{cost.total:,}", f"{cost.trained:,} ({cost.trained / cost.total:.1%})"]],
    )
    _print_table(
        ["lr_scale", "scale", "parameters"],
        [[group.name, f"{group.scale:g}", f"{group.total:,}"] for group in cost.groups],
    )
    memory = cost.memory
    if memory is not None:
        known = memory.activations is not None
        parts = {
            "weights": _bytes(memory.weights),
            "gradients": _bytes(memory.gradients),
            "AdamW": _bytes(memory.optimizer),
            "scores": _bytes(memory.scores),
            "activations": _bytes(memory.activations) if memory.activations is not None else f"({memory.why})",
        }
        total = f"{'' if known else 'at least '}{_bytes(memory.total)}"
        say(f"  memory, estimated: {total} = {' + '.join(f'{name} {size}' for name, size in parts.items())}")


def _print_table(header: list[str], rows: list[list[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, title in enumerate(header):
        table.add_column(title, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _bytes(number: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"
