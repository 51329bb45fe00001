"""`mmret data curate CURATION`: choose what to train on; the result is a data spec over the same tars."""

from __future__ import annotations

import argparse

from rich.table import Table

from mmret.cli.arguments import add_json, add_workers
from mmret.cli.console import console, say, write_json

SUMMARY = "choose samples with filters (text, pictures, scores, duplicates, balance): a new data spec, nothing copied"


def configure(parser: argparse.ArgumentParser) -> None:
    """CURATION, --workers, --device, --json."""
    parser.add_argument("curation", metavar="CURATION", help="a curation's file, or a shipped name (demo/emoji)")
    add_workers(parser)
    parser.add_argument(
        "--device", metavar="DEVICE", help="of models: cpu, cuda, cuda:1, ...; default: a GPU if there is"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Curate; a table of what went on stderr, a report and a page beside the new manifest."""
    from mmret.cli.data.curation_page import write_curation
    from mmret.data.curate import FILTERS, Curation, curate
    from mmret.data.curate.report import as_json, write_report
    from mmret.evaluation.curate import FILTERS as WITH_MODELS
    from mmret.training.progress import track

    known = {**FILTERS, **WITH_MODELS}
    found = curate(Curation.load(args.curation), known, args.workers, track, args.device)
    write_report(found)
    page = write_curation(found)
    table = Table(box=None, pad_edge=False)
    for heading in ("filter", "before", "went", "after", "why"):
        table.add_column(heading, justify="left" if heading in ("filter", "why") else "right")
    for step in found.steps:
        why = ", ".join(f"{reason} {count:,}" for reason, count in step.reasons.most_common(4))
        table.add_row(step.name, f"{step.before:,}", f"{step.before - step.after:,}", f"{step.after:,}", why)
    console.print(table)
    total = len(found.source.manifest)
    say(f"{found.curation.name}: {len(found.kept):,} of {total:,} samples; {page}", "green")
    say(f"a recipe names it by its spec: data.sources: {{{found.spec}: 1}}")
    if args.json:
        write_json({**as_json(found), "spec": str(found.spec), "manifest": str(found.manifest)})
    return 0
