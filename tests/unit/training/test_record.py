"""What a run writes about itself is there whole or not at all: other ranks read it, and a process may be killed."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmret.errors import ConfigError, EnvironmentProblem
from mmret.recipe import load_recipe
from mmret.training.lock import LOCK, only_run_in
from mmret.training.record import claimed, finished, settings_of


def test_settings_of_a_stage_are_there_whole_or_not_at_all(tmp_path, monkeypatch):
    recipe = load_recipe("tiny/preflmr", [])
    stage, folder, written = recipe.stages[0], tmp_path / "stage", []

    def full(source, target):
        written.append(json.loads(Path(source).read_text()))
        assert not os.path.exists(target)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(EnvironmentProblem, match=r"stage cannot be written \(No space left on device\)"):
            finished(folder, "chain", stage, recipe)
    assert written[0]["seed"] == recipe.seed and not (folder / "settings.json").exists()
    assert not finished(folder, "chain", stage, recipe)
    assert json.loads((folder / "settings.json").read_text()) == written[0]


def test_a_stage_begun_after_other_stages_is_not_gone_on_with(tmp_path):
    """Its own settings are the same, but its checkpoints started from what another stage left."""
    recipe = load_recipe("tiny/preflmr", [])
    stage, folder = recipe.stages[-1], tmp_path / "stage"
    assert not finished(folder, "after these stages", stage, recipe)
    assert not finished(folder, "after these stages", stage, recipe)
    with pytest.raises(ConfigError, match=r"stage was trained by another recipe \(an earlier stage differs\)"):
        finished(folder, "after others", stage, recipe)


def test_a_stage_begun_by_an_earlier_version_is_gone_on_with(tmp_path):
    recipe = load_recipe("tiny/preflmr", [])
    stage, folder = recipe.stages[-1], tmp_path / "stage"
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps(settings_of(recipe, stage)))
    assert not finished(folder, "chain", stage, recipe)


HOLD = """
import sys
from pathlib import Path
from mmret.training.lock import only_run_in
with only_run_in(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held(tmp_path):
    """The run's folder, in which another process trains until its input ends."""
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield folder, process
    process.kill()
    process.communicate()


def test_two_processes_do_not_train_in_one_folder(held):
    folder, process = held
    recipe = load_recipe("tiny/preflmr", [])
    (folder / "recipe.yaml").write_text("theirs")
    message = rf"run: another process trains here \(host .*, process {process.pid}\)\. Wait for it or end it"
    for fresh in (False, True):
        with pytest.raises(EnvironmentProblem, match=message), claimed(folder, recipe, fresh):
            pass
    assert (folder / "recipe.yaml").read_text() == "theirs"
    process.kill()  # -9: the lock ends with the process
    process.wait()
    with claimed(folder, recipe):
        assert (folder / "recipe.yaml").read_text() != "theirs"
    with claimed(folder, recipe):  # nor does a run that ended keep it
        pass


def test_the_lock_of_an_earlier_start_of_the_job_counts_for_nothing(tmp_path, monkeypatch, caplog):
    """A file server may keep it for a node that died."""

    def taken(*_):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    (tmp_path / LOCK).write_text(json.dumps({"host": "node7", "process": 1, "job": 4711}))
    monkeypatch.setattr("mmret.training.lock.fcntl.lockf", taken)
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    with only_run_in(tmp_path):
        assert "is still held by an earlier start of this job on node7" in caplog.text
    monkeypatch.setenv("SLURM_JOB_ID", "4712")
    message = r"host node7, process 1, job 4711.*delete .*\.lock"
    with pytest.raises(EnvironmentProblem, match=message), only_run_in(tmp_path):
        pass


def test_a_file_server_without_locks_is_passed_over(tmp_path, monkeypatch):
    def unknown(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("mmret.training.lock.fcntl.lockf", unknown)
    with only_run_in(tmp_path):
        pass


def test_training_anew_leaves_what_jobs_were_frozen_into(tmp_path):
    recipe = load_recipe("tiny/preflmr", [])
    with claimed(tmp_path, recipe):
        pass
    for name in ("slurm/20261121-120000/job.sbatch", "mapping/stage.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("{}")
    with claimed(tmp_path, recipe, fresh=True):
        assert (tmp_path / "slurm/20261121-120000/job.sbatch").is_file()
        assert not (tmp_path / "mapping").exists() and (tmp_path / "recipe.yaml").is_file()


def test_a_full_disk_at_the_command_is_said(tmp_path, monkeypatch):
    def full(source, target):
        if str(target).endswith("command.json"):
            raise OSError(errno.ENOSPC, "No space left on device")
        os.rename(source, target)

    monkeypatch.setattr(os, "replace", full)
    message = r"run cannot be written \(No space left on device\); make room"
    with pytest.raises(EnvironmentProblem, match=message), claimed(tmp_path / "run", load_recipe("tiny/preflmr", [])):
        pass
