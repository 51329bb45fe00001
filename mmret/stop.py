"""A request to stop: a scheduler's signals set a flag, and do nothing else. Standard library only, as it comes first.

SIGUSR1 says that the time is nearly up: go on in a new start, so the job is requeued. SIGTERM says that somebody ends
the process (`scancel`, pre-emption, a shell): save what there is; whether it starts again is theirs to say.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from threading import Thread

REQUEUE, LEAVE = signal.SIGUSR1, signal.SIGTERM


@dataclass(frozen=True)
class StopRequest:
    """That, why and when this process was asked to stop."""

    requeue: bool
    at: float = field(default_factory=time.monotonic)

    @property
    def age_s(self) -> float:
        """Seconds since then."""
        return time.monotonic() - self.at


class Stopped(Exception):
    """Work ended early because it was asked to; what it had is saved.

    Args:
        where: stage and step, for people.
        requeue: the job is to start again.
        together: every rank raises this, at the same step; else this one alone.
    """

    def __init__(self, where: str, requeue: bool, together: bool) -> None:
        super().__init__(where)
        self.where, self.requeue, self.together = where, requeue, together


_listening = False
_request: StopRequest | None = None


def listen() -> None:
    """From now on both signals only set the flag. For the main thread, before it imports anything that takes time.

    SIGUSR1 is blocked, and awaited by a thread: children (loaders' workers, compilers) inherit that it is blocked, so
    a scheduler that signals every process of the job does not kill them. Of SIGTERM, forked ones heed their parent's
    only: a loader whose worker dies raises in the middle of a step.
    """
    global _listening
    if _listening:
        return
    _listening = True
    signal.pthread_sigmask(signal.SIG_BLOCK, {REQUEUE})
    Thread(target=_await, name="mmret-stop", daemon=True).start()
    os.register_at_fork(after_in_child=_heed_parent)
    listen_for_sigterm()


def listen_for_sigterm() -> None:
    """Again, after somebody else put a handler there; nothing where `listen` was not called."""
    if _listening:
        signal.signal(LEAVE, lambda *_: _note(requeue=False))


def listening() -> bool:
    """Was `listen` called?"""
    return _listening


def requested() -> StopRequest | None:
    """The request, if there is one; that to requeue counts more than that to leave."""
    return _request


def _await() -> None:
    while True:
        signal.sigwait({REQUEUE})
        _note(requeue=True)


def _heed_parent() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {LEAVE})
    Thread(target=_await_parent, name="mmret-stop", daemon=True).start()


def _await_parent() -> None:
    while True:
        if signal.sigwaitinfo({LEAVE}).si_pid == os.getppid():
            os._exit(0)  # as torch's own workers do


def _note(requeue: bool) -> None:
    global _request
    if _request is None or (requeue and not _request.requeue):
        _request = StopRequest(requeue)
