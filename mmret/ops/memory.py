"""Memory for graphs: what a forward pass keeps for its backward, and how much of that there is room for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

GPU_SHARE, CPU_SHARE = 0.9, 0.5
"""Of the memory that is free before a step, how much graphs may take. The rest is for the scores, for what a backward
pass needs beside its graph and, on the CPU, for everybody else: who takes too much there is killed without notice."""


@contextmanager
def count_saved(own: set[int]) -> Iterator[dict[int, int]]:
    """Sizes of the storages that autograd keeps while this is open, but those in `own` (`storages`)."""
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # a freed storage's address could be another's

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def storages(tensors: Iterable[Tensor]) -> set[int]:
    """The tensors' memory, as `count_saved` knows it."""
    return {tensor.untyped_storage()._cdata for tensor in tensors}


def free_bytes(device: torch.device) -> int | None:
    """Memory of a device that this process could still take; None: there is no way to tell.

    On a GPU what torch's allocator holds unused counts as free. On the CPU it is what the machine has to give, or the
    container if that is less.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return None
    import psutil

    return min([psutil.virtual_memory().available, *_container_bytes()])


def peak_memory_mb(device: torch.device) -> float | None:
    """Most memory that this process had so far, in MiB: on a GPU of tensors on it, else of the whole process.

    None: there is no way to tell.
    """
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    # Not getrusage's: that of a new process begins with its parent's.
    lines = [line.split() for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    return round(int(lines[0][1]) / 1024, 1) if lines else None


def _container_bytes(group: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """What the container (control group, version 2) may still take; empty if it has no limit."""
    try:
        limit, used = (group / "memory.max").read_text().strip(), (group / "memory.current").read_text()
        return [] if limit == "max" else [max(0, int(limit) - int(used))]
    except (OSError, ValueError):
        return []


@dataclass
class GraphMemory:
    """Room for graphs in one step, given out chunk by chunk by what those before were measured to take."""

    device: torch.device
    limit: int | None = None
    """Most bytes; None: a share of what is free (`GPU_SHARE`, `CPU_SHARE`)."""
    sharers: int = 1
    """Processes that keep graphs in the same memory: ranks of a node on the CPU."""
    weights: set[int] = field(default_factory=set)
    """Storages that are there anyway, by `storages`."""
    ceiling: int | None = None
    """What could be kept when memory ran out once; later steps try no more."""
    room: int = 0
    """Bytes for this step's graphs."""
    kept: int = 0
    """Bytes of those that this step keeps."""
    largest: int = 0
    """Bytes of the largest graph met."""

    def begin(self, reserve: int = 0) -> None:
        """Measure the room for a new step, leaving out `reserve` bytes.

        Raises:
            ValueError: no limit is given, and this device does not say what is free.
        """
        self.kept = self.largest = 0
        room = self.limit
        if room is None:
            free = free_bytes(self.device)
            if free is None:
                raise ValueError(f"a {self.device.type} device does not say how much memory is free")
            share = GPU_SHARE if self.device.type == "cuda" else CPU_SHARE / self.sharers
            room = int(max(0, free - reserve) * share)
        self.room = room if self.ceiling is None else min(room, self.ceiling)

    def allows(self) -> bool:
        """Whether another graph is worth trying. Without a limit, one stays free: a backward pass needs as much."""
        spare = 1 if self.limit is None else 0
        return self.room > 0 and self.kept + (1 + spare) * self.largest <= self.room

    def admits(self, size: int) -> bool:
        """Whether a graph of so many bytes may stay; it then counts."""
        self.largest = max(self.largest, size)
        if self.kept + size > self.room:
            return False
        self.kept += size
        return True

    def ran_out(self) -> None:
        """Keep no more in this step, and in later ones at most nine tenths of what is kept now."""
        self.ceiling = self.room = int(0.9 * self.kept)

    @contextmanager
    def measure(self) -> Iterator[list[int]]:
        """Afterwards the list holds one number: bytes of the graph that was made inside."""
        size: list[int] = []
        if self.device.type == "cuda":
            before = torch.cuda.memory_allocated(self.device)
            yield size
            size.append(torch.cuda.memory_allocated(self.device) - before)
            return
        with count_saved(self.weights) as saved:
            yield size
        size.append(sum(saved.values()))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch could not get memory, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )
