"""Runs jobs one after the other: skips what is finished, records what fails, goes on with the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mmret.bench.job import Job
from mmret.bench.process import ProcessFailed, run_process
from mmret.bench.trial import budget_overrides
from mmret.errors import ConfigError

Tell = Callable[[str], None]
"""Gets a line for people."""


@dataclass
class Ran:
    """How jobs ended."""

    finished: list[Job] = field(default_factory=list)
    skipped: list[Job] = field(default_factory=list)
    """Finished before."""
    failed: list[Job] = field(default_factory=list)


def run_jobs(jobs: Sequence[Job], tell: Tell, quote: Tell, after: Callable[[], object]) -> Ran:
    """Each in processes of its own: `mmret run`, which goes on where it was, then what it cost.

    Args:
        tell: which of how many is on.
        quote: what the processes say.
        after: called when a job has ended.

    Raises:
        ProcessStopped: a scheduler asked the process to stop.
    """
    ran = Ran()
    for number, job in enumerate(jobs, 1):
        place = f"[{number}/{len(jobs)}] {job.title}"
        try:
            steps = budget_overrides(job.bench, job.variant, quote)
            if job.is_finished(steps):
                job.forget_failure()
                tell(f"{place}: finished before, skipped")
                ran.skipped.append(job)
                continue
            tell(f"{place}: {job.folder}")
            job.forget_failure()
            environ = job.variant.environ
            run_process(["mmret", "run", str(job.variant.file), *job.overrides(steps)], job.log, quote, environ)
            run_process(["mmret.bench", "cost", str(job.folder), job.bench.primary], job.log, quote, environ)
            job.finish(steps)
            ran.finished.append(job)
        except (ProcessFailed, ConfigError) as error:
            job.fail(str(error))
            tell(f"{place}: failed: {str(error).splitlines()[0]}")
            ran.failed.append(job)
        after()
    return ran
