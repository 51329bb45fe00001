"""Memory that is freed stays with the process for what comes next. Standard library only."""

from __future__ import annotations

import ctypes
import platform
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
"""glibc's names and numbers (mallopt(3))."""
PICTURE = 32 * 2**20
"""Bytes that a picture of 11 million pixels takes when it is decoded; glibc takes no larger threshold."""

_asked: int | None = 0


def keep_freed_memory(largest: int | None = None) -> bool:
    """Ask glibc to give less memory back to the system, or none; True if it will.

    By default large blocks go back when they are freed, and whoever asks next waits for the system to clear new pages:
    a tenth of the time of a training step on CPUs, and of a large photo's decoding (docs/benchmarks.md). Nothing
    changes what an earlier call has asked for, but to keep more.

    Args:
        largest: blocks above this many bytes go back at once, smaller ones when eight times as much is unused at the
            heap's end; None: all stays, and the process keeps its peak until it ends.
    """
    global _asked
    libc = _glibc()
    if libc is None:
        return False
    if _asked is None or (largest is not None and largest <= _asked):
        return True
    _asked = largest
    settings = (
        ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1))
        if largest is None
        else ((M_MMAP_THRESHOLD, largest), (M_TRIM_THRESHOLD, 8 * largest))
    )
    return all([bool(libc.mallopt(*setting)) for setting in settings])


@cache
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
