"""`mmret report RUN...`: write the page of runs anew; `mmret report gain WITH WITHOUT`: compare two runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmret.cli.arguments import add_json
from mmret.cli.console import say, write
from mmret.cli.gain import report_gain
from mmret.errors import ConfigError

SUMMARY = "write the report page of runs anew; report gain WITH WITHOUT: what a dataset or stage gave"


def configure(parser: argparse.ArgumentParser) -> None:
    """RUN..., or gain WITH WITHOUT."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a run's folder (runs/demo); or: gain WITH WITHOUT")
    parser.add_argument("--stage", metavar="NAME", help="gain: compare this stage; default: the last with a loss")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """One page for each run, its path on stdout; or the gain."""
    if args.runs[0] == "gain":
        if len(args.runs) != 3:
            raise ConfigError(f"mmret report gain WITH WITHOUT: two runs, got {len(args.runs) - 1}")
        return report_gain(args.runs[1], args.runs[2], args.stage, args.json)
    for folder in map(Path, args.runs):
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder; a run's folder is what `mmret run` names at its end")
    from mmret.evaluation.report import write_report

    for folder in args.runs:
        page = write_report(folder)
        say(f"report of {folder} written")
        write(str(page))
    return 0
