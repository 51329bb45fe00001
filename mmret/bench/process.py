"""A step of the bench in a Python of its own: what it says goes on to the screen and into a log."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mmret.errors import MMRetError

STOPPED = 75
"""Exit code of a run that a scheduler asked to stop (`mmret.launch.restart`); it goes on when called again."""
PR_SET_PDEATHSIG = 1
"""Of Linux's prctl: which signal a process gets when its parent ends."""
KEPT_LINES = 20
"""Of what a process said last, for the error."""


class ProcessFailed(MMRetError):
    """A process ended with an error; the text is its exit code and what it said last."""


class ProcessStopped(Exception):
    """A scheduler wants the time back; what was done is kept."""


def run_process(arguments: Sequence[str], log: Path, tell: Callable[[str], None], environ: Mapping[str, str]) -> None:
    """`python -m ARGUMENTS`, to its end.

    Args:
        log: gets everything it says, behind what is there.
        tell: gets each line.
        environ: variables beside this process's own.

    Raises:
        ProcessFailed: it ended with an error.
        ProcessStopped: it was asked to stop.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    last: deque[str] = deque(maxlen=KEPT_LINES)
    command = [sys.executable, "-m", *arguments]
    with (
        log.open("a", encoding="utf-8") as file,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, **environ},
            preexec_fn=_end_with(os.getpid()),
        ) as process,
    ):
        try:
            assert process.stdout is not None
            for line in process.stdout:
                file.write(line)
                file.flush()
                if line.strip():
                    last.append(line.rstrip())
                    tell(line.rstrip())
            code = process.wait()
        except BaseException:  # Ctrl-C reaches both; a child must not outlive its bench
            process.terminate()
            process.wait()
            raise
    if code == STOPPED:
        raise ProcessStopped
    if code:
        how = f"ended by signal {-code}" if code < 0 else f"exit code {code}"
        raise ProcessFailed("\n".join([f"{how}: {last[-1] if last else 'it said nothing'}", *last]))


def _end_with(parent: int) -> Callable[[], None] | None:
    """What a child does before it starts: ask the kernel to be killed when its parent is; None where none can.

    A bench that is killed and started again would else write into a folder that the run it left behind still writes.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before we asked
            os._exit(1)

    return ask
