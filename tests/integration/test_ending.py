"""A stage that is trained but cannot be written: an error that says what to do, and the same command finishes it."""

import errno
import os
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from mmret.cli import main
from mmret.errors import CheckpointError
from mmret.models import PreFLMR
from mmret.training.ending import leave

SHORT = ("~stages.mapping", "stages.joint.steps=6", "trainer.checkpoint_every=4", "evaluation.benchmarks=[]")


@pytest.fixture
def failing(monkeypatch):
    """failing(number): from now on saving a model writes some bytes and fails with that errno."""

    def at(number):
        def save(self, folder):
            (folder / "model.safetensors").write_bytes(b"half of it")
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(PreFLMR, "save", save)

    at.undo = monkeypatch.undo
    yield at


@pytest.mark.parametrize(
    "number, why",
    [
        (errno.ENOSPC, r"the disk is full \(.* GiB free\); make room there"),
        (errno.EROFS, "the folder cannot be written"),
    ],
)
def test_a_full_disk_at_the_end_says_so_and_the_same_command_finishes(run, tmp_path, monkeypatch, number, why, failing):
    calm = run(f"out={tmp_path / 'calm'}", *SHORT)
    with monkeypatch.context():
        failing(number)
        with pytest.raises(CheckpointError, match=rf"joint: stage joint is trained, but not written: {why}") as caught:
            run(*SHORT)
    assert "The last checkpoint (00000004.ckpt) is as it was: the same command goes on from there" in str(caught.value)
    joint = tmp_path / "run" / "joint"
    assert os.listdir(joint / "checkpoints") == ["00000004.ckpt"]
    assert not list(joint.glob("model*")) and not (joint / "stage.json").exists()
    monkeypatch.undo()
    run(*SHORT)
    assert (joint / "stage.json").is_file() and not (joint / "checkpoints").exists()
    one, other = (load_file(f / "joint/model/model.safetensors") for f in (calm, tmp_path / "run"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_without_a_checkpoint_the_error_says_that_the_stage_trains_again(toy_recipe, capsys, failing):
    failing(errno.ENOSPC)
    assert main(["run", str(toy_recipe), *SHORT, "trainer.checkpoint_every=100"]) == 5
    err = " ".join(capsys.readouterr().err.split())
    assert "There is no checkpoint of it (trainer.checkpoint_every): the same command trains this stage again" in err
    assert "Traceback" not in err


def test_other_ranks_learn_of_it(tmp_path):
    strategy = SimpleNamespace(broadcast=lambda value: "the disk of rank 0 is full")
    module = SimpleNamespace(trainer=SimpleNamespace(strategy=strategy, is_global_zero=False))
    with pytest.raises(CheckpointError, match="the disk of rank 0 is full"):
        leave(module, tmp_path, {"name": "joint"})


def test_a_model_that_was_left_half_written_is_replaced(run, tmp_path):
    (tmp_path / "run" / "joint" / "model.part").mkdir(parents=True)
    (tmp_path / "run" / "joint" / "model").mkdir()
    (tmp_path / "run" / "joint" / "model" / "old").write_text("of a process that was killed")
    (tmp_path / "run" / "recipe.yaml").write_text("")
    run(*SHORT)
    assert not list((tmp_path / "run" / "joint").glob("model.part"))
    assert not (tmp_path / "run" / "joint" / "model" / "old").exists()


def test_a_checkpoint_of_an_unfinished_stage_becomes_a_model(run, tmp_path, failing, capsys):
    failing(errno.ENOSPC)
    with pytest.raises(CheckpointError):
        run(*SHORT, "stages.joint.optimizer.ema_decay=0.8")
    file = tmp_path / "run/joint/checkpoints/00000004.ckpt"
    stored = torch.load(file, weights_only=False)["state_dict"]
    failing.undo()
    assert main(["convert", str(file), str(tmp_path / "model")]) == 0
    written = load_file(tmp_path / "model" / "model.safetensors")
    assert written and all(torch.equal(written[name], stored[f"model.{name}"]) for name in written)
    assert (tmp_path / "model" / "config.json").is_file()
    other = tmp_path / "00000004.ckpt"
    other.write_bytes(file.read_bytes())
    assert main(["convert", str(other), str(tmp_path / "second")]) == 5
    assert "want RUN/STAGE/checkpoints/STEP.ckpt" in " ".join(capsys.readouterr().err.split())
