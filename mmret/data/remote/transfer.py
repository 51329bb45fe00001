"""Bytes from elsewhere, by kind of address; each question is asked again when the fault may pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TypeVar

from mmret.data.remote import command
from mmret.data.remote.address import PIPE, is_web
from mmret.data.remote.failure import retrying

Result = TypeVar("Result")


def file_version(address: str) -> str | None:
    """What changes with the file, without reading it; None: nobody knows."""
    if address.startswith(PIPE):
        return None
    kind = _kind(address)
    return retrying(lambda: kind.version(address), address)


def read_range(address: str, start: int, length: int, size: int) -> bytes:
    """`length` bytes from `start` on, of a file of `size` bytes; not of a command.

    Raises:
        RemoteDamaged: the file is of another size.
        RemoteError: they cannot be had.
    """
    kind = _kind(address)
    return retrying(lambda: kind.part(address, start, length, size), address)


def fetch(address: str, take: Callable[[Iterator[bytes]], Result]) -> Result:
    """`take` with the pieces of the whole file, from the first again after each fault that may pass.

    Raises:
        RemoteError: it cannot be had.
    """
    if address.startswith(PIPE):
        return retrying(lambda: take(command.pieces(address)), address, command.DELAYS_S)
    kind = _kind(address)
    return retrying(lambda: take(kind.pieces(address)), address)


def _kind(address: str) -> ModuleType:
    # Only now: both take time to import, and every data worker imports this file.
    if is_web(address):
        from mmret.data.remote import web

        return web
    from mmret.data.remote import store

    return store
