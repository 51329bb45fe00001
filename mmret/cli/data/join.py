"""`mmret data join FOLDER`: the slices of a build to one collection."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmret.cli.arguments import add_json
from mmret.cli.console import say, write_json
from mmret.errors import ConfigError

SUMMARY = "join the slices that several tasks built (mmret data build ... --slice 3/16); says which are missing"


def configure(parser: argparse.ArgumentParser) -> None:
    """FOLDER, --json."""
    parser.add_argument("folder", metavar="FOLDER", help="what the builds had as --out")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Join every collection of the folder; what was written."""
    from mmret.data.sources import Plan

    folder = Path(args.folder)
    plans = [Plan.load(folder, path.parent.name.removesuffix(".pieces")) for path in folder.glob("*.pieces/plan.json")]
    found = sorted((plan for plan in plans if plan is not None), key=lambda plan: plan.name)
    if not found:
        raise ConfigError(
            f"{folder}: no pieces of a build here; give the --out of mmret data build with "
            "image_folder, interleaved, pairs or table"
        )
    joined = {plan.name: plan.join() for plan in found}
    for plan in found:
        counts = f"{len(joined[plan.name]):,} samples in {len(joined[plan.name].shards):,} shards"
        say(f"{plan.manifest}: {counts}, data spec {plan.spec_file}", "green")
    if args.json:
        write_json(
            {name: {"samples": len(manifest), "shards": len(manifest.shards)} for name, manifest in joined.items()}
        )
    return 0
