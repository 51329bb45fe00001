"""Signals of a scheduler: every rank stops after the same step with a checkpoint, the job is requeued, nothing changes.

Real processes and signals, with a scontrol that only notes how it was called; tests/slurm has a real cluster.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mmret import stop
from mmret.recipe import load_recipe
from mmret.stop import Stopped
from mmret.training.callbacks import ProgressLines
from mmret.training.stages import run_recipe

ROOT = Path(__file__).resolve().parents[2]
USR1 = 1 << (signal.SIGUSR1 - 1)
LONG = ("stages.joint.steps=150", "trainer.checkpoint_every=40", "evaluation.benchmarks=[]")


def weights(folder):
    return load_file(folder / "joint/model/model.safetensors")


def assert_same(one, other):
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys() and [name for name in a if not torch.equal(a[name], b[name])] == []


@pytest.fixture
def signalled(monkeypatch):
    """signalled(step, requeue=True): as if the signal came during that step of the second stage."""

    def at(step, requeue=True):
        monkeypatch.setattr(stop, "_request", None)

        def on_train_batch_end(self, trainer, *_):
            if self.stage == "joint" and trainer.global_step == step:
                stop._note(requeue)

        monkeypatch.setattr(ProgressLines, "on_train_batch_end", on_train_batch_end)

    return at


@pytest.mark.parametrize("step", [1, 4, 7, 12])  # first, a regular checkpoint's, between two, last
def test_stopped_after_any_step_it_ends_as_if_nothing_had_happened(step, toy_recipe, tmp_path, run, signalled):
    calm = run(f"out={tmp_path / 'calm'}", "evaluation.benchmarks=[]")
    recipe = load_recipe(toy_recipe, [f"out={tmp_path / 'stopped'}", "evaluation.benchmarks=[]"])
    signalled(step)
    with pytest.raises(Stopped, match=f"stage joint, step {step} of 12") as caught:
        run_recipe(recipe)
    assert (caught.value.requeue, caught.value.together) == (True, True)
    assert f"{step:08d}.ckpt" in os.listdir(tmp_path / "stopped/joint/checkpoints")
    signalled(-1)
    run_recipe(recipe)
    assert_same(calm, tmp_path / "stopped")


def test_requeued_often_it_keeps_its_newest_checkpoint_beside_the_regular_ones(toy_recipe, tmp_path, signalled):
    recipe = load_recipe(toy_recipe, [f"out={tmp_path / 'often'}"])
    for step in (1, 3, 5, 7):
        signalled(step, requeue=False)
        with pytest.raises(Stopped) as caught:
            run_recipe(recipe)
        assert not caught.value.requeue
    assert sorted(os.listdir(tmp_path / "often/joint/checkpoints")) == ["00000004.ckpt", "00000007.ckpt"]


def test_a_request_before_the_first_stage_stops_it_at_once(toy_recipe, monkeypatch):
    recipe = load_recipe(toy_recipe)
    monkeypatch.setattr(stop, "_request", stop.StopRequest(requeue=True))
    with pytest.raises(Stopped, match="the start of stage mapping") as caught:
        run_recipe(recipe)
    assert not caught.value.together
    assert not Path(recipe.out, "mapping/checkpoints").exists()


class Tasks:
    """What `srun --ntasks-per-node=N mmret run` starts on one node."""

    def __init__(self, place, count, recipe, *overrides, restarts=None):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "LT_"))}
        environ |= {"OMP_NUM_THREADS": "1", "PATH": f"{place / 'bin'}{os.pathsep}{environ['PATH']}"}
        environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
        environ |= {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NNODES": "1", "SLURM_JOB_NODELIST": "localhost"}
        environ |= {"SLURM_NTASKS": str(count), "SLURM_NTASKS_PER_NODE": str(count), "SLURM_NODEID": "0"}
        if restarts is not None:
            environ["SLURM_RESTART_COUNT"] = str(restarts)
        self.log = place / f"{time.monotonic_ns()}.log"
        command = [sys.executable, "-m", "mmret", "run", str(recipe), *overrides]
        self.processes = [
            subprocess.Popen(
                command,
                cwd=ROOT,
                env={**environ, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
                stderr=self.log.open("a"),
                stdout=subprocess.DEVNULL,
            )
            for rank in range(count)
        ]

    def until(self, condition):
        """Wait for it, while all run."""
        end = time.monotonic() + 200
        while not condition():
            assert all(process.poll() is None for process in self.processes), self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.02)

    def signal(self, rank, number=signal.SIGUSR1):
        self.processes[rank].send_signal(number)

    def ends(self):
        """Exit codes."""
        return [process.wait(200) for process in self.processes]

    def listen(self):
        """Does every task block SIGUSR1 by now?"""
        masks = [Path(f"/proc/{process.pid}/status").read_text() for process in self.processes]
        return all(int(re.search(r"SigBlk:\s*(\w+)", mask)[1], 16) & USR1 for mask in masks)


@pytest.fixture
def tasks(tmp_path):
    """tasks(...) -> Tasks; killed if the test leaves them. tmp_path/calls has what scontrol was called with."""
    (tmp_path / "bin").mkdir()
    for name in ("scontrol", "srun"):
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
        (tmp_path / "bin" / name).chmod(0o755)
    started = []

    def start(*arguments, **settings):
        started.append(Tasks(tmp_path, *arguments, **settings))
        return started[-1]

    yield start
    for one in started:
        for process in one.processes:
            process.kill()
            process.wait()


def calls(tmp_path):
    return (tmp_path / "calls").read_text().splitlines()


@pytest.mark.dist
def test_two_ranks_of_which_one_was_signalled_stop_together_and_go_on_to_the_same_weights(tasks, toy_recipe, tmp_path):
    both = (toy_recipe, *LONG, "trainer.devices=2")
    calm, stopped = tmp_path / "calm", tmp_path / "stopped"
    assert tasks(2, *both, f"out={calm}").ends() == [0, 0]
    first = tasks(2, *both, f"out={stopped}")
    first.until(lambda: list((stopped / "joint").glob("checkpoints/*.ckpt")))
    first.signal(1)
    assert first.ends() == [75, 75], first.log.read_text()
    assert calls(tmp_path) == ["requeue 7"]
    (step,) = re.findall(r"stopped at stage joint, step (\d+) of 150; job 7 is requeued", first.log.read_text())
    second = tasks(2, *both, f"out={stopped}", restarts=1)
    assert second.ends() == [0, 0]
    assert f"start 2 of job 7, at stage joint, step {step}" in second.log.read_text()
    assert f"stage joint: goes on at step {step} of 150" in second.log.read_text()
    assert_same(calm, stopped)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the signal mask of a process in /proc")
def test_a_signal_during_imports_requeues_before_anything_is_learnt(tasks, toy_recipe, tmp_path):
    one = tasks(1, toy_recipe)
    one.until(one.listen)
    one.signal(0)
    assert one.ends() == [75], one.log.read_text()
    assert calls(tmp_path) == ["requeue 7"]
    assert "stopped at the start of stage mapping; job 7 is requeued and goes on there" in one.log.read_text()
    assert not (tmp_path / "run/mapping/checkpoints").exists()


def test_sigterm_saves_and_leaves_without_requeue(tasks, toy_recipe, tmp_path):
    one = tasks(1, toy_recipe, *LONG)
    one.until(lambda: list((tmp_path / "run/joint").glob("checkpoints/*.ckpt")))
    one.signal(0, signal.SIGTERM)
    assert one.ends() == [75], one.log.read_text()
    (step,) = re.findall(r"stopped at stage joint, step (\d+) of 150; the same command goes on", one.log.read_text())
    assert (tmp_path / f"run/joint/checkpoints/{int(step):08d}.ckpt").exists()
    assert not (tmp_path / "calls").exists()
