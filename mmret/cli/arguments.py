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


def add_workers(parser: argparse.ArgumentParser) -> None:
    """--workers."""
    parser.add_argument(
        "--workers", type=_count, metavar="N", help="processes; default: as many as processors, one for small data"
    )


def _count(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"want a number of at least 1, got '{text}'")
    return value
