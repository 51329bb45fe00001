"""`mmret encode CHECKPOINT DATA --out FOLDER`: embeddings of a corpus or of queries on disk, in slices, restartable."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping

from mmret.cli.arguments import add_encoding, count
from mmret.cli.console import say
from mmret.launch import process_count, process_rank
from mmret.recipe.find_model import find_model

SUMMARY = "encode a corpus, or queries, to disk: restartable, in slices over a job array or ranks"


def configure(parser: argparse.ArgumentParser) -> None:
    """CHECKPOINT, DATA, options."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a run's folder, a stage's, a model's, or a hub id")
    parser.add_argument(
        "data", metavar="DATA", help="a benchmark, for queries with its split, or a data spec (mmret ls)"
    )
    parser.add_argument("--out", metavar="FOLDER", required=True, help="where the parts go; all slices write there")
    parser.add_argument("--side", choices=["document", "query"], default="document", help="what to encode (document)")
    parser.add_argument("--slice", metavar="K/N", help="only every Nth part from the Kth on; slurm: by the job array")
    parser.add_argument("--rows-per-part", type=count, default=8192, metavar="N", help="rows of a file (8192)")
    parser.add_argument("--dtype", choices=["float32", "float16"], default="float32", help="of the file (float32)")
    add_encoding(parser)


def run(args: argparse.Namespace) -> int:
    """Encode what is not there yet."""
    slice = slice_of(args.slice, os.environ)
    folder, _ = find_model(args.checkpoint)
    from mmret.evaluation.encode import Settings
    from mmret.evaluation.encoding import encode_to_disk, open_target
    from mmret.models.load import load
    from mmret.training.progress import track

    target = open_target(args.data, args.side)
    settings = Settings(args.batch_size, args.device or _device(os.environ), args.num_workers, track)
    done = encode_to_disk(
        load(folder),
        target,
        args.out,
        settings,
        slice=slice,
        rows_per_part=args.rows_per_part,
        dtype=args.dtype,
    )
    before = f", {done.skipped} were there" if done.skipped else ""
    if done.missing:
        say(f"{done.written} parts written{before}; {done.missing} of other slices are not there yet: {args.out}")
    else:
        say(f"{target.rows:,} rows, each id once, {done.written} parts written{before}: {args.out}", "green")
    return 0


def slice_of(text: str | None, environ: Mapping[str, str]) -> tuple[int, int]:
    """(number from 0, count) of this process: `--slice`, divided over the ranks of torchrun or srun.

    Raises:
        ConfigError: the text is no slice, or we are not in SLURM.
    """
    from mmret.data.sources import Slice

    one = Slice.of_slurm(environ) if text == "slurm" else Slice.parse(text)
    if text == "slurm" and "WORLD_SIZE" not in environ:  # srun's tasks are counted in it
        return one.number - 1, one.count
    rank, world = process_rank(environ), process_count(environ)
    return (one.number - 1) * world + rank, one.count * world


def _device(environ: Mapping[str, str]) -> str | None:
    """Each process of a node its own GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    local = int(environ.get("LOCAL_RANK", environ.get("SLURM_LOCALID", 0)))
    return f"cuda:{local % torch.cuda.device_count()}"
