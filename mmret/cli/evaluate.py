"""`mmret evaluate CHECKPOINT BENCHMARK...`: the numbers of a trained model, by the code that measures in training."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mmret.cli.arguments import add_batch_size, add_device, add_json
from mmret.cli.console import console, say, write_json
from mmret.errors import ConfigError
from mmret.launch import process_count
from mmret.recipe.find_model import find_model
from mmret.recipe.rerank import RerankConfig

SUMMARY = "measure a checkpoint on benchmarks"


def configure(parser: argparse.ArgumentParser) -> None:
    """CHECKPOINT, BENCHMARK[/split]..., options."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a run's folder, a stage's, a model's, or a hub id")
    parser.add_argument(
        "benchmarks",
        metavar="BENCHMARK[/SPLIT]",
        nargs="*",
        help="benchmarks (mmret ls benchmarks), single splits, or a suite (m2kr); default for a run: its recipe's",
    )
    add_batch_size(parser, 64, "rows encoded at once")
    parser.add_argument("--dim", type=int, metavar="N", help="use the first N numbers of each embedding (matryoshka)")
    add_device(parser)
    parser.add_argument("--no-controls", action="store_true", help="leave the benchmarks' controls out")
    parser.add_argument(
        "--rerank", type=int, metavar="K", help="sort the first K documents of each query anew by the itm head"
    )
    parser.add_argument(
        "--rerank-score",
        choices=["itm", "itm_plus_cosine"],
        help="by the log-odds of a match (default), or by its logit plus the first score",
    )
    parser.add_argument("--out", metavar="FOLDER", help="write metrics.json, per-query values and TREC runs there")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; tables on stderr, with --json the metrics by name on stdout."""
    if args.rerank_score and args.rerank is None:
        raise ConfigError("--rerank-score says how to re-rank; give --rerank K beside it")
    folder, recipe = find_model(args.checkpoint)
    rerank = recipe.evaluation.rerank if recipe and not args.benchmarks else None
    if args.rerank is not None:
        rerank = RerankConfig(args.rerank, args.rerank_score or "itm")
    targets = args.benchmarks or (recipe.evaluation.benchmarks if recipe else [])
    if not targets:
        raise ConfigError(f"name a benchmark (mmret ls benchmarks): mmret evaluate {args.checkpoint} BENCHMARK")
    import torch

    from mmret.evaluation import Evaluator, evaluate_checkpoint
    from mmret.evaluation.names import RERANKED
    from mmret.evaluation.suite import expand_targets, print_suite
    from mmret.evaluation.terminal import terminal_table
    from mmret.training.group import leave_group
    from mmret.training.joining import join_group
    from mmret.training.progress import track

    rank = 0
    if process_count(os.environ) > 1:  # they share the encoding and the search
        rank, _ = join_group("auto" if args.device is None else args.device.partition(":")[0])
    device = args.device or ("cuda" if torch.cuda.is_available() else None)
    chosen = expand_targets(targets)
    for target, why in chosen.missing.items() if rank == 0 else ():
        say(f"{target} is left out: {why}", "yellow")
    evaluator = Evaluator(chosen.targets, out=args.out, batch_size=args.batch_size, device=device, track=track)
    settings = {} if args.dim is None else {"dim": args.dim}
    metrics = evaluate_checkpoint(
        folder, evaluator, controls=not args.no_controls, rerank=rerank, overrides=settings
    ).metrics
    leave_group()
    if rank:
        return 0
    terminal_table(metrics, console=console)
    for suite in chosen.suites:
        name = Path(args.checkpoint).name
        rows = {name: suite.percent(metrics), f"{name}\nre-ranked": suite.percent(metrics, RERANKED)}
        print_suite(suite, {title: row for title, row in rows.items() if row}, console)
    if not metrics:
        say(
            "no numbers: what was asked has no labels here"
            + ("" if args.out else "; --out FOLDER keeps the predictions")
        )
    if args.out:
        say(f"written to {args.out}")
    if args.json:
        for suite in chosen.suites:
            metrics |= suite.means(metrics)
        write_json(metrics)
    return 0
