"""`mmret data check TARGET...`: what is wrong with a collection, by shard and key."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from mmret.cli.arguments import add_json, add_workers
from mmret.cli.console import console, say, write_json
from mmret.errors import SampleError

if TYPE_CHECKING:
    from mmret.data.care import CheckReport

SUMMARY = "find truncated tars, duplicate keys, half samples, broken pictures, missing fields, wrong counts"
SHOWN = 40
"""Faults listed on a terminal; --json has all that were kept."""


def configure(parser: argparse.ArgumentParser) -> None:
    """TARGET..., --workers, --json."""
    parser.add_argument(
        "targets",
        metavar="TARGET",
        nargs="+",
        help="data specs (mmret ls data), their files, or manifests (.json, URL)",
    )
    add_workers(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Check each; the exit code says whether anything is wrong."""
    from mmret.data.care import Collection, check
    from mmret.training.progress import track

    reports = [check(Collection.find(target), args.workers, track) for target in args.targets]
    for report in reports:
        _show(report)
    if args.json:
        write_json([report.as_json() for report in reports])
    return 0 if all(report.healthy for report in reports) else SampleError.exit_code


def _show(report: CheckReport) -> None:
    looked = f"{report.shards:,} shards, {report.samples:,} samples, {report.pictures:,} pictures"
    if report.healthy:
        say(f"{report.name}: nothing wrong in {looked}", "green")
        return
    say(f"{report.name}: {sum(report.counts.values()):,} faults in {looked}", "red")
    table = Table(box=None, pad_edge=False)
    for heading in ("fault", "shard", "key", ""):
        table.add_column(heading, overflow="fold")
    for fault in report.faults[:SHOWN]:
        place = f"{fault.shard}:{fault.key}: " if fault.key else f"{fault.shard}: "
        table.add_row(fault.kind, *(escape(one) for one in (fault.shard, fault.key, fault.text.removeprefix(place))))
    console.print(table)
    more = sum(report.counts.values()) - min(len(report.faults), SHOWN)
    if more:
        say(f"... and {more:,} more; in all: " + ", ".join(f"{n:,} {kind}" for kind, n in report.counts.most_common()))
