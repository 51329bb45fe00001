"""What can go wrong with a fetch, and which of it is worth another try."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from mmret.data.remote.address import PIPE, shown
from mmret.errors import RemoteError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

DELAYS_S: tuple[float, ...] = (1, 2, 4, 8, 16, 32, 64)
"""Waits before each further try; equal on all machines, so that a run can be told from its log."""


class RemoteMissing(RemoteError):
    """There is no such file."""


class RemoteDamaged(RemoteError):
    """What comes, each time, is not the file that the manifest knows."""


class NoRanges(RemoteError):
    """The server gives files whole, whatever part is asked for."""


class NoRoom(RemoteError):
    """The cache's limit is reached by files in use."""


class Transient(Exception):
    """Passes, maybe: an overloaded server, a broken connection, an answer that ends early."""


class WrongBytes(Transient):
    """All came, but not the bytes that were to come: cut on the way, or replaced for good."""


_WRONG = 3
"""Times that the wrong bytes may come."""


def retrying(work: Callable[[], Result], address: str, delays_s: Sequence[float] | None = None) -> Result:
    """`work()`, again after each `Transient`, at most `len(delays_s)` times.

    Raises:
        RemoteDamaged: thrice `WrongBytes` came.
        RemoteError: none of the tries came through.
    """
    delays = DELAYS_S if delays_s is None else delays_s
    wrong = 0
    for tries, delay in enumerate(delays, 1):
        try:
            return work()
        except Transient as error:
            wrong += isinstance(error, WrongBytes)
            if wrong == _WRONG:
                raise RemoteDamaged(
                    f"{shown(address)}: {error}, {_WRONG} times; it was cut or replaced where it lies: upload it "
                    "again, or make its manifest anew (mmret data index)"
                ) from error
            logger.warning("%s: %s; try %d of %d in %g s", shown(address), error, tries + 1, len(delays) + 1, delay)
            time.sleep(delay)
    try:
        return work()
    except Transient as error:
        culprit = "the command" if address.startswith(PIPE) else "the network or the server"
        raise RemoteError(
            f"{shown(address)}: cannot be fetched: {error}, after {len(delays) + 1} tries; look after {culprit}, then "
            "start again: a run goes on where it stopped"
        ) from error


def no_rights(address: str, status: str) -> RemoteError:
    """Somebody, but not us, may read it."""
    return RemoteError(
        f"{shown(address)}: {status}: no right to read it; give this machine access (~/.netrc for http, the "
        "environment or ~/.aws for s3, gcloud for gs), or renew a signed address that ran out"
    )


def missing(address: str, status: str) -> RemoteMissing:
    """It is not there."""
    return RemoteMissing(
        f"{shown(address)}: {status}: not there; compare the address with the data spec and the manifest, upload what "
        "is missing"
    )


def another_size(address: str, found: str, size: int) -> RemoteDamaged:
    """It is not of `size` bytes."""
    return RemoteDamaged(
        f"{shown(address)}: {found}, the manifest says {size:,}; it was cut or replaced: upload it again, or make its "
        "manifest anew (mmret data index)"
    )
