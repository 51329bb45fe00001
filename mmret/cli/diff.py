"""`mmret report diff RUN RUN`: what two runs' resolved recipes say differently."""

from __future__ import annotations

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from mmret.cli.console import console, say, write_json
from mmret.errors import ConfigError

RECIPE_FILE = "recipe.yaml"


def report_diff(ours: str, theirs: str, as_json: bool = False) -> int:
    """Changed keys only, as a table on stderr, with `as_json` also on stdout.

    Args:
        ours, theirs: run folders, or resolved recipes.

    Raises:
        ConfigError: no such run, or it keeps no recipe.
    """
    texts = [_recipe(path) for path in (ours, theirs)]
    from mmret.evaluation.compare.diff import flat_recipe, recipe_diff

    changed = recipe_diff(*map(flat_recipe, texts))
    if changed:
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for heading in ("key", ours, theirs):
            table.add_column(Text(heading), overflow="fold")
        for key, pair in changed.items():
            table.add_row(*map(Text, (key, *pair)))
        console.print(table)
    else:
        say("no key differs")
    if as_json:
        write_json({key: {"first": pair[0], "second": pair[1]} for key, pair in changed.items()})
    return 0


def _recipe(path: str) -> str:
    folder = Path(path)
    if not folder.exists():
        raise ConfigError(f"{folder}: no such folder; a run's folder is what `mmret run` names at its end")
    file = folder / RECIPE_FILE if folder.is_dir() else folder
    if not file.is_file():
        bench = sorted(folder.glob(f"*/seed-*/{RECIPE_FILE}"))
        hint = f" Did you mean {bench[0].parent}?" if bench else ""
        raise ConfigError(f"{folder}: no {RECIPE_FILE}, so no run; `mmret run` writes it first.{hint}")
    return file.read_text("utf-8")
