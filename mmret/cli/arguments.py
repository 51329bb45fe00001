"""Arguments that several verbs take."""

from __future__ import annotations

import argparse


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """RECIPE and its overrides."""
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe file or a shipped name (mmret ls recipes)")
    parser.add_argument(
        "overrides",
        metavar="KEY=VALUE",
        nargs="*",
        help="settings to change: trainer.devices=2  stages[0].steps=5  stages.mapping.steps=5  ~feature_cache",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="write the result to stdout as JSON")
