"""`mmret show RECIPE`: the recipe with defaults, parents and overrides in place; --origins: whence each value came."""

from __future__ import annotations

import argparse

from mmret.cli.arguments import add_json, add_recipe
from mmret.cli.console import write, write_json
from mmret.recipe import LoadedRecipe, read_recipe, recipe_fingerprint, resolve_to_yaml
from mmret.recipe.problem import Origin, Problems, dotted
from mmret.recipe.resolved import plain
from mmret.recipe.yaml_marks import leaves, parse_yaml

SUMMARY = "print a recipe as it is run, with every default; --origins tells where each value came from"


def configure(parser: argparse.ArgumentParser) -> None:
    """RECIPE, overrides, --origins, --json."""
    add_recipe(parser)
    parser.add_argument("--origins", action="store_true", help="beside each value: file:line, override, or default")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print to stdout: YAML that loads to the same recipe."""
    loaded = read_recipe(args.recipe, args.overrides)
    if args.json:
        fingerprint = recipe_fingerprint(loaded.recipe)
        write_json({"fingerprint": fingerprint, "recipe": plain(loaded.recipe), "origins": loaded.origins()})
    elif args.origins:
        write(with_origins(loaded))
    else:
        write(resolve_to_yaml(loaded.recipe))
    return 0


def with_origins(loaded: LoadedRecipe) -> str:
    """The resolved recipe's YAML, each value's line ending in a comment."""
    text = resolve_to_yaml(loaded.recipe)
    nodes = parse_yaml(text, Origin("resolved", 1, 1), Problems())
    origins = loaded.origins()
    lines = text.splitlines()
    width = min(60, max(map(len, lines)))
    for path, _ in leaves(plain(loaded.recipe)):
        line = nodes.locate(path).line
        assert line is not None
        lines[line - 1] = f"{lines[line - 1]:<{width}}  # {origins[dotted(path)]}"
    return "\n".join(lines)
