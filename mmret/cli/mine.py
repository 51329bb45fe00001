"""`mmret mine CHECKPOINT DATA`: hard negatives for a data source, found by a trained model."""

from __future__ import annotations

import argparse

from mmret.cli.arguments import add_encoding, add_json
from mmret.cli.console import console, say, write_json
from mmret.errors import ConfigError
from mmret.recipe.find_model import find_model

SUMMARY = "find hard negatives for a data source with a trained model; writes a data spec that has them"


def configure(parser: argparse.ArgumentParser) -> None:
    """CHECKPOINT, DATA, options."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a run's folder, a stage's, a model's, or a hub id")
    parser.add_argument("data", metavar="DATA", help="a data spec (mmret ls data) or its YAML: queries and documents")
    parser.add_argument("--out", metavar="FOLDER", help="where to write; default: mined/<name of the source>")
    parser.add_argument("--k", type=int, default=100, metavar="K", help="documents searched for each query (100)")
    parser.add_argument("--negatives", type=int, default=10, metavar="N", help="most negatives of each query (10)")
    parser.add_argument("--margin", type=float, metavar="M", help="a negative scores at least M less than the positive")
    parser.add_argument("--ratio", type=float, metavar="R", help="a negative scores at most R of the positive (0.95)")
    parser.add_argument(
        "--range", metavar="FROM:TO", help="ranks to take from, the first is 0, known positives are not counted (10:50)"
    )
    parser.add_argument("--max-score", type=float, metavar="S", help="a negative scores at most S")
    parser.add_argument("--min-score", type=float, metavar="S", help="a negative scores at least S")
    parser.add_argument(
        "--sampling", choices=["top", "random"], default="top", help="the best of those left (default), or any of them"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="SEED", help="of --sampling random (0)")
    parser.add_argument("--rerank", action="store_true", help="score what is found once more by the itm head")
    add_encoding(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Mine and write; a table on stderr, with --json the report on stdout."""
    from mmret.evaluation.mining.rules import MiningRules

    rules = MiningRules(
        args.k,
        args.negatives,
        args.margin,
        args.ratio,
        _range(args.range),
        args.max_score,
        args.min_score,
        args.sampling,
        args.seed,
    )
    folder, _ = find_model(args.checkpoint)
    import torch

    from mmret.data.spec import DataSpec
    from mmret.evaluation.encode import Settings
    from mmret.evaluation.mining import Mineable, mine, write_mining
    from mmret.evaluation.mining.outcome import print_report, report
    from mmret.evaluation.rerank import open_reranker
    from mmret.models import load
    from mmret.training.progress import track

    spec = DataSpec.load(args.data)
    settings = Settings(
        args.batch_size, args.device or ("cuda" if torch.cuda.is_available() else None), args.num_workers, track
    )
    data = Mineable(spec.open(), track)
    model = load(folder)
    reranker = open_reranker(folder, model, data.query(0), data.document(0), settings) if args.rerank else None
    mined = mine(model, data, rules, settings, reranker)
    path = write_mining(mined, args.out or f"mined/{spec.name}", args.checkpoint)
    facts = report(mined)
    print_report(facts, console)
    say(f"written to {path}: name it in a recipe's data.sources in place of {args.data}", "green")
    if args.json:
        write_json({"spec": str(path), **facts})
    return 0


def _range(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, found, last = text.partition(":")
    if not found or not (first or "0").isdecimal() or not last.isdecimal():
        raise ConfigError(f"--range: want FROM:TO, two ranks such as 10:50, got '{text}'")
    return int(first or 0), int(last)
