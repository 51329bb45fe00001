"""`mmret ls`: what there is to name in a recipe, a line each."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from mmret.cli.arguments import add_json
from mmret.cli.console import write, write_json
from mmret.recipe import shipped, tables

SUMMARY = "list recipes, benches, models, objectives, data specs and benchmarks"


def configure(parser: argparse.ArgumentParser) -> None:
    """KIND, --json."""
    parser.add_argument(
        "kind", metavar="KIND", nargs="?", choices=[*KINDS], help=f"one of {', '.join(KINDS)}; default: all"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Names and what they are, to stdout."""
    listed = {kind: KINDS[kind]() for kind in ([args.kind] if args.kind else KINDS)}
    if args.json:
        write_json(listed)
        return 0
    width = max((len(name) for entries in listed.values() for name in entries), default=0)
    for kind, entries in listed.items():
        if args.kind is None:
            write(f"{kind}:")
        for name, about in entries.items():
            write(f"{'' if args.kind else '  '}{name:<{width}}  {about}".rstrip())
    return 0


def _recipes() -> dict[str, str]:
    return {name: _first_comment(path) for name, path in shipped.names("recipe").items()}


def _first_comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ") if first.startswith("#") else ""


def _specs(kind: shipped.Kind) -> dict[str, str]:
    return {name: _description(path) for name, path in shipped.names(kind).items()}


def _description(path: Path) -> str:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError:
        return f"({path} is not YAML)"
    about = tree.get("description") if isinstance(tree, dict) else None
    return " ".join(str(about).split()) if about else ""


def _configs(table: dict[str, Any]) -> dict[str, str]:
    """First line of each Config's docstring."""
    return {name: (entry.Config.__doc__ or "").strip().partition("\n")[0] for name, entry in table.items()}


KINDS: dict[str, Callable[[], dict[str, str]]] = {
    "recipes": _recipes,
    "benches": lambda: {name: _first_comment(path) for name, path in shipped.names("bench").items()},
    "models": lambda: _configs(tables.models()),
    "objectives": lambda: _configs(tables.objectives()),
    "data": lambda: _specs("data spec"),
    "benchmarks": lambda: _specs("benchmark"),
    "curations": lambda: {name: _first_comment(path) for name, path in shipped.names("curation").items()},
}
