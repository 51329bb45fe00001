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
        "--workers", type=count, metavar="N", help="processes; default: as many as processors, one for small data"
    )


def add_encoding(parser: argparse.ArgumentParser) -> None:
    """--batch-size, --num-workers and --device of a pass of a model over rows."""
    add_batch_size(parser, 64, "rows encoded at once")
    parser.add_argument("--num-workers", type=int, default=0, metavar="N", help="processes that read and decode (0)")
    add_device(parser)


def add_batch_size(parser: argparse.ArgumentParser, default: int, what: str) -> None:
    """--batch-size."""
    parser.add_argument("--batch-size", type=count, default=default, metavar="N", help=f"{what} ({default})")


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device."""
    parser.add_argument("--device", metavar="DEVICE", help="cpu, cuda, cuda:1, ...; default: a GPU if there is one")


def count(text: str) -> int:
    """What an argument of at least 1 is read with."""
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value
