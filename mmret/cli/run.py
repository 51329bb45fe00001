"""`mmret run RECIPE`: train its stages, evaluate, report; called again, it goes on where it was."""

from __future__ import annotations

import argparse
import os

from mmret.cli.arguments import add_recipe
from mmret.cli.console import say
from mmret.launch import check_restart, leave, load_for_launch, process_rank, restarts_of
from mmret.stop import Stopped

SUMMARY = "train the stages of a recipe, evaluate, write the report; go on where an earlier run stopped"


def configure(parser: argparse.ArgumentParser) -> None:
    """RECIPE, overrides, --fresh."""
    add_recipe(parser)
    parser.add_argument("--fresh", action="store_true", help="delete what the run's folder holds and train all anew")


def run(args: argparse.Namespace) -> int:
    """Load the recipe as the launcher wants it, and train."""
    # Read when torch is imported. At the level below, DDP advises not to look for parameters that a step does not
    # reach as soon as one step reaches all (`training.stage.strategy_name`).
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    loaded = load_for_launch(args.recipe, args.overrides, os.environ)
    from mmret.training.group import leave_group
    from mmret.training.stages import run_recipe

    check_restart(loaded.recipe, os.environ)
    try:
        # What --fresh deletes is, at SLURM's second start, what the first one learnt.
        out = run_recipe(loaded.recipe, fresh=args.fresh and restarts_of(os.environ) == 0)
    except Stopped as stopped:
        return leave(stopped, os.environ)
    if process_rank(os.environ) == 0:
        say(f"done: {out}", "green")
    leave_group()
    return 0
