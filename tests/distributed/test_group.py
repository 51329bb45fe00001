"""A run's process group ends before Python does."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from mmret.training.group import leave_group

def gloo_threads():
    names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
    return sum("gloo" in name for name in names)

def train():
    model = DistributedDataParallel(torch.nn.Linear(4, 4))
    model.module.trainer = model  # a cycle, as Lightning's
    model(torch.ones(2, 4)).sum().backward()

leave_group()  # without one: nothing
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=0, world_size=1)
train()
print(gloo_threads())
leave_group()
print(gloo_threads(), dist.is_initialized())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads thread names from /proc (Linux)")
def test_no_thread_of_the_group_outlives_a_run(tmp_path):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "meet")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    before, after, initialized = done.stdout.split()
    assert int(before) > 0
    assert (after, initialized) == ("0", "False")
