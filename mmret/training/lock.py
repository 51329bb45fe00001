"""One run at a time in a folder: a lock that ends with the process that holds it, however that ends."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch.plugins.environments import SLURMEnvironment

from mmret.errors import EnvironmentProblem

logger = logging.getLogger(__name__)

LOCK = ".lock"
"""The file in a run's folder; who holds it stands inside."""
_TAKEN = (errno.EAGAIN, errno.EACCES)


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Inside, no other process is inside with this folder. For rank 0; the folder is made.

    File servers that know no locks are passed over. A lock of an earlier start of the same SLURM job does not count:
    a server may keep it for a node that died.

    Raises:
        EnvironmentProblem: another process is, or the folder cannot be written.
    """
    file = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = file.open("a+")
    except OSError as error:
        raise EnvironmentProblem(
            f"{folder} cannot be written ({error.strerror}); make room or give yourself the rights, or choose "
            "out=FOLDER"
        ) from error
    mine = {"host": socket.gethostname(), "process": os.getpid(), "job": SLURMEnvironment.job_id()}
    with held:
        try:
            # Of POSIX, not flock: forked loader workers do not inherit it, and it works over NFS.
            fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _TAKEN:
                held.seek(0)
                _judge(file, held.read(), mine["job"])
        else:
            held.truncate(0)
            held.write(json.dumps(mine))
            held.flush()
        yield


def _judge(file: Path, text: str, job: object) -> None:
    try:
        holder = json.loads(text)
    except ValueError:
        holder = {}
    if job is not None and holder.get("job") == job:
        logger.warning("%s is still held by an earlier start of this job on %s", file, holder.get("host"))
        return
    who = ", ".join(f"{key} {value}" for key, value in holder.items() if value is not None)
    raise EnvironmentProblem(
        f"{file.parent}: another process trains here ({who or 'not known'}). Wait for it or end it, or give this run "
        f"a folder of its own: out=runs/NAME. If it is gone, with its machine, delete {file}"
    )
