"""`mmret convert SOURCE DEST`: a checkpoint from one layout into another."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmret.cli.console import say
from mmret.errors import CheckpointError

SUMMARY = "write a checkpoint in our layout, or in the one its authors published"


def configure(parser: argparse.ArgumentParser) -> None:
    """SOURCE, DEST, --to."""
    parser.add_argument("source", metavar="SOURCE", help="a stage's folder, a model folder, or a published checkpoint")
    parser.add_argument("dest", metavar="DEST", help="what to write; must not exist (VLMo, published: a .pt file)")
    parser.add_argument("--to", choices=("mmret", "published"), default="mmret", help="the layout to write")


def run(args: argparse.Namespace) -> int:
    """Load strictly, write, read back."""
    source, dest = Path(args.source), Path(args.dest)
    if dest.exists():
        raise CheckpointError(f"{dest} exists; name a new one, or delete it first")
    from safetensors.torch import load_file

    from mmret.models.load import load
    from mmret.models.publish import publish

    stored = source / "objectives.safetensors"
    model = load(source / "model" if (source / "model").is_dir() else args.source)
    if args.to == "mmret":
        model.save(dest)
    else:
        publish(model, dest, load_file(stored) if stored.exists() else None)
    load(dest)
    say(f"{dest}: written, and opens", "green")
    return 0
