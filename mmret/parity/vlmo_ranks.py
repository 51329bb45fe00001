"""VLMo's golden run in several processes: each rank's losses and gradients, and their mean."""

from __future__ import annotations

import os
import re
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from mmret.parity.report import Report
from mmret.parity.vlmo_losses import given, published_gradients, sum_of, weighted_losses
from mmret.parity.vlmo_set import VLMoSet


def compare_ranks(case: VLMoSet) -> None:
    """Start as many processes as the case has ranks, each with its part of the batch."""
    stored = case["dist2"]
    if not stored:
        return
    world = 1 + max(int(match[1]) for key in stored if (match := re.match(r"rank(\d+)\.", key)))
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_process, (world, folder, case.folder, case.name, case.golden), nprocs=world, join=True)
        found = [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(world)]
    for rank, tensors in enumerate(found):
        for key, ours in tensors.items():
            name = f"rank{rank}.{key}"
            if key == "itm_labels":
                case.check("dist2", name, ours)
            elif key.startswith("grad."):
                case.gradient("dist2", name, ours)
            else:
                case.check("dist2", name, ours, relative=True)
        case.asked |= {("dist2", key) for key in stored if key.startswith(f"rank{rank}.in.")}
    for key in stored:
        if key.startswith("ddp_mean."):
            mean = torch.stack([tensors[key.removeprefix("ddp_mean.")] for tensors in found]).mean(0)
            case.gradient("dist2", key, mean)


def _process(rank: int, world: int, folder: str, golden_folder: Path, name: str, golden: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    rendezvous = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=world, timeout=timedelta(seconds=120))
    found = run_rank(VLMoSet(golden_folder, name, golden, Report()), rank, world)
    torch.save({key: value.detach().contiguous() for key, value in found.items()}, Path(folder) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def run_rank(case: VLMoSet, rank: int, world: int) -> dict[str, Tensor]:
    """This rank's values, named as in the case: losses, logits in the order "own rows first", gradients."""
    rows = len(case["io"]["in.text_ids"]) // world
    order = own_first(rank, world, rows)
    model = case.model()
    objectives = case.objectives(model, gradient="local")
    step = case.step(model, slice(rank * rows, (rank + 1) * rows))
    drawn = given(case, "dist2", f"rank{rank}.in.", order)
    losses = weighted_losses(objectives, step, drawn)
    sum_of(losses).backward()
    with torch.no_grad():
        t2i = (step.global_scores() * objectives["itc"].scale)[order][:, order]
        logits = objectives["itm"].logits(step, drawn)
    labels = torch.zeros(len(logits))
    labels[:rows] = 1
    gradients = published_gradients(model, objectives)
    return {
        "itc_loss": losses["itc"] + losses["itc_vl"],
        "itm_loss": losses["itm"],
        "mlm_loss": losses["mlm"],
        "itc_t2i_logits": t2i,
        "itc_i2t_logits": t2i.T,
        "itm_logits": logits,
        "itm_labels": labels,
        **{f"grad.{key}": value for key, value in gradients.items()},
    }


def own_first(rank: int, world: int, rows: int) -> Tensor:
    """[world x rows] the released code's order of gathered rows, as numbers in rank order."""
    ranks = [rank, *(other for other in range(world) if other != rank)]
    return torch.cat([torch.arange(rows) + other * rows for other in ranks])
