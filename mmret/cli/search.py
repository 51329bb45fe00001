"""`mmret search CHECKPOINT BENCHMARK/SPLIT`: the documents found for each question, for generators and scorers."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmret.cli.arguments import add_encoding, count
from mmret.cli.console import say
from mmret.errors import ConfigError
from mmret.recipe.find_model import find_model

SUMMARY = "write the documents that a checkpoint finds for each question (JSON lines for RAG, or a TREC run)"


def configure(parser: argparse.ArgumentParser) -> None:
    """CHECKPOINT, BENCHMARK/SPLIT, options."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a run's folder, a stage's, a model's, or a hub id")
    parser.add_argument("target", metavar="BENCHMARK/SPLIT", help="whose questions, and whose documents are searched")
    parser.add_argument("--out", metavar="FILE", required=True, help="file to write")
    parser.add_argument(
        "--format", choices=["rag", "trec"], default="rag", help="rag: JSON lines with texts; trec: a run file"
    )
    parser.add_argument("--k", type=count, default=5, metavar="K", help="documents a question (5)")
    parser.add_argument("--images", metavar="FOLDER", help="rag: write the questions' pictures there and name them")
    parser.add_argument("--encoded", metavar="FOLDER", help="the documents' embeddings, by mmret encode")
    add_encoding(parser)


def run(args: argparse.Namespace) -> int:
    """Search and write the file."""
    folder, _ = find_model(args.checkpoint)
    import torch

    from mmret.evaluation.benchmark import Benchmark
    from mmret.evaluation.measure import ModelEvaluator, Settings
    from mmret.evaluation.rag import write_rag
    from mmret.evaluation.trec import write_run
    from mmret.models.load import load
    from mmret.training.progress import track

    benchmark, splits = Benchmark.load_target(args.target)
    if len(splits) != 1:
        raise ConfigError(f"{args.target} has the splits {', '.join(splits)}; name one: {args.target}/{splits[0]}")
    benchmark.depth = args.k
    device = args.device or ("cuda" if torch.cuda.is_available() else None)
    settings = Settings(args.batch_size, device, args.num_workers, track)
    evaluator = ModelEvaluator(load(folder), settings)
    if args.encoded:
        evaluator.take_stored(benchmark, args.encoded)
    result = evaluator(benchmark, splits[0])
    out = Path(args.out)
    if args.format == "rag":
        count = write_rag(result, out, args.k, args.images)
    else:
        assert result.rows is not None and result.scores is not None
        queries = [query.id for query in result.split.queries]
        found = [[benchmark.corpus.id(row) for row in rows if row >= 0] for rows in result.rows.tolist()]
        write_run(out, queries, found, result.scores.tolist(), "mmret")
        count = len(queries)
    say(f"{count:,} questions, {args.k} documents each: {out}")
    return 0
