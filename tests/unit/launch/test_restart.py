"""Requeue through a scontrol that notes how it was called; restarts without progress are counted and refused."""

import os
from pathlib import Path

import pytest

from mmret.errors import EnvironmentProblem
from mmret.launch import check_restart, leave, slurm
from mmret.launch.restart import progress_of
from mmret.launch.slurm import job_of, requeue
from mmret.recipe import load_recipe
from mmret.stop import Stopped
from tests.fake_tables import TINY

STOPPED = Stopped("stage mapping, step 4 of 10", requeue=True, together=False)


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """scontrol(body) puts a command of that name on PATH; returns what it was called with so far."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(slurm.time, "sleep", lambda seconds: None)

    def put(body="exit 0"):
        file = folder / "scontrol"
        file.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n{body}\n')
        file.chmod(0o755)
        return lambda: (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []

    return put


@pytest.fixture
def recipe(write):
    return load_recipe(write(TINY), ["out=run"])


@pytest.mark.parametrize(
    ("environ", "job"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "7"}, "7"),
        ({"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}, "7_2"),
    ],
)
def test_a_task_of_an_array_is_requeued_by_its_own_name(environ, job):
    assert job_of(environ) == job


def test_rank_0_requeues_once_and_leaves_with_75(scontrol):
    calls = scontrol()
    environ = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}
    assert leave(STOPPED, {**environ, "SLURM_PROCID": "1"}) == 75
    assert calls() == []
    assert leave(STOPPED, {**environ, "SLURM_PROCID": "0"}) == 75
    assert calls() == ["requeue 7"]


def test_sigterm_is_not_answered_by_requeueing(scontrol):
    calls = scontrol()
    assert leave(Stopped("step 4", requeue=False, together=False), {"SLURM_JOB_ID": "7"}) == 75
    assert calls() == []


def test_a_busy_controller_is_asked_again(scontrol, tmp_path):
    calls = scontrol(f"[ $(wc -l < {tmp_path}/calls) -ge 3 ]")
    requeue("7")
    assert calls() == ["requeue 7"] * 3


def test_a_requeue_that_keeps_failing_says_why_and_what_is_safe(scontrol):
    calls = scontrol("echo 'Requested operation is presently disabled' >&2; exit 1")
    with pytest.raises(
        EnvironmentProblem, match=r"job 7 could not be requeued \(Requested .* disabled\)\. .* submit the job again"
    ):
        leave(STOPPED, {"SLURM_JOB_ID": "7"})
    assert len(calls()) == 5


def test_without_scontrol_the_message_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentProblem, match=r"scontrol is not on PATH"):
        requeue("7")


def test_three_restarts_without_progress_end_the_job(recipe):
    environ = {"SLURM_JOB_ID": "7"}
    check_restart(recipe, environ)
    for count in (1, 2):
        check_restart(recipe, {**environ, "SLURM_RESTART_COUNT": str(count)})
    with pytest.raises(
        EnvironmentProblem,
        match=r"job 7 was restarted 3 times and still stands at stage mapping, step 0: .*anew",
    ):
        check_restart(recipe, {**environ, "SLURM_RESTART_COUNT": "3"})


def test_a_step_or_another_job_starts_the_count_again(recipe):
    folder = Path("run/mapping/checkpoints")
    folder.mkdir(parents=True)
    for count in range(9):
        if count % 2 == 0:
            (folder / f"{count:08d}.ckpt").touch()
        check_restart(recipe, {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": str(count)})
    assert progress_of(recipe) == "stage mapping, step 8"
    for job in ("8", "9", "10", "11", "12"):
        check_restart(recipe, {"SLURM_JOB_ID": job})


def test_only_rank_0_under_slurm_keeps_count(recipe):
    check_restart(recipe, {})
    check_restart(recipe, {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1"})
    assert not Path("run").exists()
