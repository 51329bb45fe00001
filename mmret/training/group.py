"""The end of a run's process group."""

from __future__ import annotations

import gc

import torch.distributed as dist


def leave_group() -> None:
    """End this process's group, if it has one, while Python still runs; for ranks that all finished.

    Lightning ends NCCL's alone. Gloo's threads let go of a collective's tensors after it is done; when Python has begun
    to exit by then, the process dies of it ("terminate called without an active exception") with all its work written.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    gc.collect()  # the threads end with the last reference, and a trainer's are in cycles
    dist.destroy_process_group()
