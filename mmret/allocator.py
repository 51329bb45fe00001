"""Memory that a step on CPUs frees stays with the process for the next step."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""glibc's names and numbers (mallopt(3))."""


def keep_freed_memory() -> bool:
    """Ask glibc not to give memory back to the system; True if it will not.

    By default each tensor above 32 MB goes back when it is freed, and the next step waits for the system to clear new
    pages: a tenth of its time (docs/benchmarks.md). The process keeps its peak until it ends.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(M_MMAP_MAX, 0)) and bool(libc.mallopt(M_TRIM_THRESHOLD, -1))
