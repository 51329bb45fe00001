"""`mmret data index TARS...`: make tars that others wrote readable as they are."""

from __future__ import annotations

import argparse

from mmret.cli.arguments import add_json, add_workers
from mmret.cli.console import say, write_json

SUMMARY = "index tars of others, such as an img2dataset folder, where they lie: manifest, member indexes, data spec"


def configure(parser: argparse.ArgumentParser) -> None:
    """TARS..., --name, --skip-broken, --workers, --json."""
    parser.add_argument("tars", metavar="TARS", nargs="+", help="a folder with tars in it or below it, or tars")
    parser.add_argument("--name", metavar="NAME", help="of the collection and its files; default: the folder's")
    parser.add_argument("--skip-broken", action="store_true", help="leave out tars that cannot be read, and say which")
    add_workers(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Index; what was written, and how a recipe names it."""
    from mmret.data.care import index_tars
    from mmret.training.progress import track

    found = index_tars(args.tars, args.name, args.skip_broken, args.workers or 4, track)
    for line in found.left_out:
        say(f"left out: {line}", "yellow")
    counts = f"{len(found.manifest):,} samples in {len(found.manifest.shards):,} shards, layout {found.layout}"
    say(f"{found.manifest.path}: {counts}", "green")
    say(f"a recipe names it by its spec: data.sources: {{{found.spec}: 1}}")
    if args.json:
        facts = {"manifest": str(found.manifest.path), "spec": str(found.spec), "layout": found.layout}
        write_json({**facts, "samples": len(found.manifest), "left_out": list(found.left_out)})
    return 0
