"""Task numbers of a job array, and the recipe that each task runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmret.errors import ConfigError
from mmret.recipe.schema import Recipe

PLACEHOLDERS = ("{array}", "{variant}")
"""In overrides: the task's number, and the name of its recipe's file."""


@dataclass(frozen=True)
class Task:
    """One task of an array before its recipe is read."""

    number: int
    path: str
    overrides: tuple[str, ...]


def array_numbers(text: str) -> list[int]:
    """`0-3,8-16:4%2` -> [0, 1, 2, 3, 8, 12, 16]; how many run at once (`%2`) is SLURM's to know.

    Raises:
        ConfigError: it is no list of numbers and ranges.
    """
    numbers: list[int] = []
    body, _, limit = text.partition("%")
    for part in body.split(","):
        found = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part)
        if found is None or (limit and not limit.isdigit()) or (limit == "" and "%" in text):
            raise ConfigError(f"--array {text}: want numbers and ranges (0-15, 1,3,5, 0-15%4 for four at once)")
        first, last, step = int(found[1]), int(found[2] or found[1]), int(found[3] or 1)
        if last < first or step < 1:
            raise ConfigError(f"--array {text}: {part} is empty")
        numbers += range(first, last + 1, step)
    return list(dict.fromkeys(numbers))


def variant_files(given: Sequence[str]) -> list[str]:
    """The recipes named: files, shipped names, and all `*.yaml` of a folder but those that begin with `_`.

    Raises:
        ConfigError: a folder without any.
    """
    files: list[str] = []
    for name in given:
        if not Path(name).is_dir():
            files.append(name)
            continue
        inside = sorted(str(path) for path in Path(name).glob("*.yaml") if not path.name.startswith("_"))
        if not inside:
            raise ConfigError(f"--variants {name}: no *.yaml in this folder")
        files += inside
    return files


def tasks_of(files: Sequence[str], overrides: Sequence[str], array: str | None, variants: bool) -> list[Task]:
    """One task for each variant, or for each number of `--array`; one, if neither is asked for.

    Raises:
        ConfigError: `--array` names a variant that there is not, or all its tasks would run the same recipe.
    """
    numbers = array_numbers(array) if array else list(range(len(files))) if variants else [0]
    if variants and max(numbers) >= len(files):
        raise ConfigError(f"--array {array}: there are {len(files)} variants, numbered from 0")
    if array and not variants and not any("{array}" in text for text in overrides):
        raise ConfigError(
            f"--array {array}: all tasks would train the same. Write {{array}} where they differ "
            "(seed={array} out=runs/NAME-{array}), or give several recipes: --variants FILE..."
        )
    tasks = []
    for number in numbers:
        path = files[number] if variants else files[0]
        filled = (text.replace("{array}", str(number)).replace("{variant}", Path(path).stem) for text in overrides)
        tasks.append(Task(number, path, tuple(filled)))
    return tasks


def check_outs(recipes: dict[int, Recipe]) -> None:
    """Refuse tasks that would write into one folder.

    Raises:
        ConfigError: two of them would.
    """
    seen: dict[str, int] = {}
    for number, recipe in recipes.items():
        first = seen.setdefault(str(Path(recipe.out).absolute()), number)
        if first != number:
            raise ConfigError(
                f"tasks {first} and {number} of the array would both write into {recipe.out}; "
                "give each its own: out=runs/NAME-{variant} or out=runs/NAME-{array}"
            )


def check_resources(recipes: dict[int, Recipe]) -> None:
    """Refuse variants that want different resources: an array's tasks all get the same.

    Raises:
        ConfigError: devices, nodes or accelerator differ.
    """
    shapes = {
        number: (recipe.trainer.num_nodes, recipe.trainer.devices, recipe.trainer.accelerator)
        for number, recipe in recipes.items()
    }
    first = min(shapes)
    for number, shape in shapes.items():
        if shape != shapes[first]:
            raise ConfigError(
                f"variants {first} and {number} want other resources (nodes, devices, accelerator: "
                f"{shapes[first]} and {shape}); an array gives all the same. Submit them apart"
            )
