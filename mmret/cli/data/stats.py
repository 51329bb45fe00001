"""`mmret data stats TARGET`: counts, lengths, sizes and repeats, as tables or on a page with plots."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from mmret.cli.arguments import add_json, add_workers
from mmret.cli.console import console, say, write, write_json

if TYPE_CHECKING:
    from mmret.data.care import Statistics

SUMMARY = "count samples, lengths of texts, sizes of pictures and repeats; with --html as plots"


def configure(parser: argparse.ArgumentParser) -> None:
    """TARGET, --html, --workers, --json."""
    parser.add_argument(
        "target", metavar="TARGET", help="data spec (mmret ls data), its file, or manifest (.json, URL)"
    )
    parser.add_argument("--html", metavar="FILE", help="write a page with plots, too")
    add_workers(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Read everything once; tables on stderr."""
    from mmret.data.care import Collection, statistics
    from mmret.training.progress import track

    found = statistics(Collection.find(args.target), args.workers, track)
    size = f"{found.shards:,} shards, {found.bytes / 1e6:,.1f} MB"
    say(f"{found.name}: {found.samples:,} samples in {size}" + (f"; {found.broken:,} broken" if found.broken else ""))
    console.print(_distributions(found))
    console.print(_repeats(found))
    if found.labels:
        most = ", ".join(f"{label} {count:,}" for label, count in found.labels.most_common(10))
        say(f"{len(found.labels):,} different labels: {most}{', ...' if len(found.labels) > 10 else ''}")
    if args.html:
        from mmret.cli.data.sheet import write_statistics

        path = write_statistics(args.html, found)
        if args.json:
            say(str(path))
        else:
            write(str(path))
    if args.json:
        write_json(found.as_json())
    return 0


def _distributions(found: Statistics) -> Table:
    from mmret.data.care.statistics import quantiles

    table = Table(box=None, pad_edge=False)
    for heading in ("", "", "count", "least", "5 %", "median", "95 %", "most"):
        table.add_column(heading, justify="right" if heading else "left")
    rows = [
        (name, label, values) for name, side in found.sides.items() for label, values in side.distributions().items()
    ]
    rows += [("samples", "positives", found.positives), ("samples", "negatives", found.negatives)]
    last = ""
    for name, label, values in rows:
        if values:
            shown = [f"{value:,g}" if value < 1e6 else f"{value:,.0f}" for value in quantiles(values)]
            table.add_row("" if name == last else name, label, f"{sum(values.values()):,}", *shown)
            last = name
    return table


def _repeats(found: Statistics) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("more than once", "all", "distinct", "most often", "for example"):
        left = heading in ("more than once", "for example")
        table.add_column(heading, justify="left" if left else "right", no_wrap=not left)
    for one in found.repeats:
        example = escape(" = ".join(one.examples[0][:2])) if one.examples else ""
        table.add_row(one.kind, f"{one.total:,}", f"{one.distinct:,}", f"{one.largest:,}", example)
    return table
