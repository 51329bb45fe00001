"""`mmret report`: the page of one run, the comparison of several or of a bench, the diff of two recipes, the gain."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mmret.cli.arguments import add_json
from mmret.cli.console import console, say, write
from mmret.cli.diff import report_diff
from mmret.cli.gain import report_gain
from mmret.errors import ConfigError

SUMMARY = "page of a run, or comparison of several or of a bench; report diff A B: recipes; report gain WITH WITHOUT"


def configure(parser: argparse.ArgumentParser) -> None:
    """RUN, RUN RUN ..., BENCH, or diff A B, or gain WITH WITHOUT."""
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        help="folder of a run (its page), or of a bench or several (a comparison); or: diff RUN RUN, gain WITH WITHOUT",
    )
    parser.add_argument("--compare", metavar=("A", "B"), nargs=2, help="variants side by side; default: the best two")
    parser.add_argument(
        "--out", metavar="FOLDER", help="of the comparison; default: the bench's, or the folder that holds all runs"
    )
    parser.add_argument("--plots", metavar="FOLDER", help="write the comparison's main plots there too, as SVG files")
    parser.add_argument("--stage", metavar="NAME", help="gain: compare this stage; default: the last with a loss")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Tables on stderr; paths of what was written on stdout."""
    if args.runs[0] == "gain":
        if len(args.runs) != 3:
            raise ConfigError(f"mmret report gain WITH WITHOUT: two runs, got {len(args.runs) - 1}")
        return report_gain(args.runs[1], args.runs[2], args.stage, args.json)
    if args.runs[0] == "diff":
        if len(args.runs) != 3:
            raise ConfigError(f"mmret report diff RUN RUN: two runs, got {len(args.runs) - 1}")
        return report_diff(args.runs[1], args.runs[2], args.json)
    from mmret.evaluation.compare.variant import is_bench

    folders = [Path(folder) for folder in args.runs]
    benches = [folder for folder in folders if is_bench(folder)]
    if len(folders) == 1 and not benches:
        return _page(folders[0], args)
    return _comparison(folders, args)


def _page(folder: Path, args: argparse.Namespace) -> int:
    for option, given in (("--compare", args.compare), ("--out", args.out), ("--plots", args.plots)):
        if given:
            raise ConfigError(f"mmret report: {option} is for a comparison; name a bench's folder or several runs")
    from mmret.evaluation.report import write_report

    page = write_report(folder)
    say(f"report of {folder} written")
    write(str(page))
    return 0


def _comparison(folders: list[Path], args: argparse.Namespace) -> int:
    from mmret.evaluation.compare import Comparison, read_variants, write_comparison, write_plots
    from mmret.evaluation.compare.screen import show_comparison

    variants, origin = read_variants(folders)
    comparison = Comparison(variants, origin, args.compare)
    show_comparison(comparison, console)
    written = write_comparison(comparison, args.out or _default_out(folders))
    for path in written + (write_plots(comparison, args.plots) if args.plots else []):
        write(str(path))
    return 0


def _default_out(folders: list[Path]) -> Path:
    """A single bench's own folder; of several, the innermost that holds them all."""
    if len(folders) == 1:
        return folders[0]
    return Path(os.path.commonpath([folder.resolve().parent for folder in folders]))
