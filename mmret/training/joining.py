"""Processes that torchrun or srun started meet as one process group, also where no fit makes them one."""

from __future__ import annotations

import warnings

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import ClusterEnvironment
from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from torch.distributed.constants import default_pg_timeout


def join_group(accelerator: str) -> tuple[int, int]:
    """Rank and number of ranks; with several each gets its own GPU, and all have come when this returns.

    A stage's fit would make the group. But before the first one ranks would read what rank 0 is about to write or to
    delete, and a run whose stages are finished has no fit: each rank would measure everything, on the first GPU.

    Args:
        accelerator: as `trainer.accelerator`.
    """
    environment = _environment()
    if environment is None or environment.world_size() == 1:
        return 0, 1
    if not dist.is_initialized():
        on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        if on_gpu:
            # A scheduler may show each task its own GPU only.
            torch.cuda.set_device(environment.local_rank() % torch.cuda.device_count())
        # Asked for, SLURM's put MASTER_ADDR and MASTER_PORT where torch reads them, as in a fit.
        _ = environment.main_address, environment.main_port
        dist.init_process_group(
            "nccl" if on_gpu else "gloo",
            rank=environment.global_rank(),
            world_size=environment.world_size(),
            timeout=default_pg_timeout,
        )
    dist.barrier()
    return environment.global_rank(), environment.world_size()


def _environment() -> ClusterEnvironment | None:
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    with warnings.catch_warnings():  # a hint to use srun, wherever it is installed
        warnings.simplefilter("ignore")
        return SLURMEnvironment(auto_requeue=False) if SLURMEnvironment.detect() else None
