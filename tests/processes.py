"""Run a function in several gloo processes and collect what each returns."""

import os
import pickle
import tempfile
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run_processes(function, world, *args):
    """[function(rank, *args) of each rank]; a module-level function, so that it pickles."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_worker, (world, folder, function, args), nprocs=world, join=True)
        return [pickle.loads((Path(folder) / f"{rank}.pkl").read_bytes()) for rank in range(world)]


def _worker(rank, world, folder, function, args):
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world, timeout=timedelta(seconds=120)
    )
    result = function(rank, *args)
    (Path(folder) / f"{rank}.pkl").write_bytes(pickle.dumps(result))
    dist.barrier()
    dist.destroy_process_group()
