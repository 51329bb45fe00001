"""After a stop: requeue once, from rank 0. At a restart: refuse to go round in circles."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path

from mmret.errors import EnvironmentProblem
from mmret.launch.environment import process_rank
from mmret.launch.slurm import job_of, requeue, restarts_of
from mmret.recipe.schema import Recipe
from mmret.stop import Stopped

logger = logging.getLogger(__name__)

STOPPED = 75
"""Exit code of a run that stopped on request and goes on when started again (EX_TEMPFAIL of sysexits.h)."""
MAX_FRUITLESS = 3
"""Restarts of one job without a new step or stage; the next would likely end as these did."""


def leave(stopped: Stopped, environ: Mapping[str, str]) -> int:
    """What a stopped run does last: rank 0 requeues the job, the others wait for it; returns the exit code.

    Raises:
        EnvironmentProblem: the job could not be requeued.
    """
    job = job_of(environ)
    try:
        if process_rank(environ) == 0:
            if stopped.requeue and job is not None:
                requeue(job)
                logger.info("stopped at %s; job %s is requeued and goes on there", stopped.where, job)
            else:
                logger.info("stopped at %s; the same command goes on there", stopped.where)
    finally:
        # srun --kill-on-bad-exit ends rank 0 as soon as another rank leaves.
        if stopped.together:
            _wait_for_all()
    return STOPPED


def check_restart(recipe: Recipe, environ: Mapping[str, str]) -> None:
    """Keep count of SLURM's restarts that brought the run no further.

    Raises:
        EnvironmentProblem: there were `MAX_FRUITLESS` of them in a row.
    """
    job, restarts = job_of(environ), restarts_of(environ)
    if job is None or process_rank(environ) != 0:
        return
    out = Path(recipe.out)
    file, now = out / "slurm" / "restarts.json", progress_of(recipe)
    before = json.loads(file.read_text()) if file.exists() else {}
    known = restarts > 0 and before.get("job") == job
    fruitless = before["fruitless"] + 1 if known and before["progress"] == now else 0
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps({"job": job, "restarts": restarts, "progress": now, "fruitless": fruitless}))
    os.replace(temporary, file)
    if fruitless >= MAX_FRUITLESS:
        raise EnvironmentProblem(
            f"job {job} was restarted {fruitless} times and still stands at {now}: it would go on like this for ever. "
            f"Is the time limit long enough for a start and some steps, and is trainer.checkpoint_every "
            f"({recipe.trainer.checkpoint_every}) small enough? Submit anew to go on from there"
        )
    if restarts:
        logger.info("start %d of job %s, at %s", restarts + 1, job, now)


def progress_of(recipe: Recipe) -> str:
    """How far the run's folder has come: the first unfinished stage, and its newest checkpoint's step."""
    for stage in recipe.stages:
        folder = Path(recipe.out) / stage.name
        if not (folder / "stage.json").exists():
            found = [re.match(r"\d+", path.name) for path in (folder / "checkpoints").glob("*.ckpt")]
            return f"stage {stage.name}, step {max((int(step[0]) for step in found if step), default=0)}"
    return "the evaluation after the last stage"


def _wait_for_all() -> None:
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.barrier()
