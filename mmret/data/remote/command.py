"""Files that a command writes to its standard output."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator

from mmret.data.remote.address import PIPE
from mmret.data.remote.failure import Transient
from mmret.errors import RemoteError

DELAYS_S: tuple[float, ...] = (1, 2, 4)
"""Fewer tries than for servers: commands retry by themselves, and do not say whether the fault may pass."""
_PIECE = 1 << 20
_NO_COMMAND = (126, 127)


def pieces(address: str) -> Iterator[bytes]:
    """What the command of `pipe:COMMAND` writes, run by the shell.

    Raises:
        RemoteError: there is no such command.
        Transient: it ended with an error.
    """
    command = address[len(PIPE) :].strip()
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(command, shell=True, stdout=subprocess.PIPE, stderr=complaints) as process,
    ):
        assert process.stdout is not None
        try:
            while piece := process.stdout.read(_PIECE):
                yield piece
        except GeneratorExit:
            process.kill()
            raise
        code = process.wait()
        if code:
            complaints.seek(0)
            said = complaints.read().decode(errors="replace").strip().splitlines()[-1:]
            text = f"exit code {code}" + "".join(f": {line}" for line in said)
            if code in _NO_COMMAND:
                raise RemoteError(f"{address}: {text}; install the command, or correct it")
            raise Transient(text)
