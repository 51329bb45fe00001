"""SLURM's commands as we call them: sbatch, scontrol requeue; and what its variables say of this job."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from mmret.errors import EnvironmentProblem

ATTEMPTS = 5
"""Of `scontrol requeue`: a busy controller answers `Socket timed out` now and then."""


def job_of(environ: Mapping[str, str]) -> str | None:
    """The job as scontrol names it, one task of an array as `ARRAY_TASK`; None outside SLURM."""
    if "SLURM_ARRAY_JOB_ID" in environ and "SLURM_ARRAY_TASK_ID" in environ:
        # SLURM_JOB_ID of an array's last task is the whole array's.
        return f"{environ['SLURM_ARRAY_JOB_ID']}_{environ['SLURM_ARRAY_TASK_ID']}"
    return environ.get("SLURM_JOB_ID")


def restarts_of(environ: Mapping[str, str]) -> int:
    """How often SLURM, or torchrun (`--max-restarts`), has started this job again."""
    counts = (environ.get(name, "") for name in ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"))
    return max((int(count) for count in counts if count.isdigit()), default=0)


def sbatch(script: Path) -> str:
    """Submit; returns the job's id.

    Raises:
        EnvironmentProblem: there is no sbatch, or it refuses.
    """
    told = _call(["sbatch", "--parsable", str(script)])
    if told is None:
        raise EnvironmentProblem(f"sbatch is not on PATH: on a machine that has it, sbatch {script}")
    if told.returncode:
        raise EnvironmentProblem(f"sbatch {script} refuses: {told.stderr.strip() or f'exit code {told.returncode}'}")
    return told.stdout.strip().partition(";")[0]


def requeue(job: str, pause_s: float = 3.0) -> None:
    """`scontrol requeue JOB`, again if it fails; SLURM then ends the job's processes.

    Args:
        pause_s: seconds before the second attempt; twice as long before each further one.

    Raises:
        EnvironmentProblem: it failed each time.
    """
    why = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(pause_s * 2 ** (attempt - 1))
        told = _call(["scontrol", "requeue", job])
        if told is None:
            why = "scontrol is not on PATH"
            break
        if told.returncode == 0:
            return
        why = told.stderr.strip() or f"scontrol ends with {told.returncode}"
    raise EnvironmentProblem(
        f"job {job} could not be requeued ({why}). What was learnt is saved; submit the job again to go on"
    )


def _call(command: list[str]) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return None
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]} gave no answer in 60 s")
