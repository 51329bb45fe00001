import errno
import os
import signal
from types import SimpleNamespace

import pytest
import torch

from mmret.errors import CheckpointError
from mmret.training import checkpoints
from mmret.training.checkpoints import CheckpointFile, Checkpoints, newest_checkpoint


class FakeTrainer:
    """What the callback asks of a trainer."""

    is_global_zero = True

    def __init__(self, files):
        self.files, self.global_step = files, 0
        self.strategy = SimpleNamespace(broadcast=lambda value: value)

    def save_checkpoint(self, path):
        self.files.save_checkpoint({"global_step": self.global_step, "weights": torch.ones(3)}, path)


def train(folder, steps, every=2, files=None, trainer=None):
    files = files or CheckpointFile()
    trainer = trainer or FakeTrainer(files)
    callback = Checkpoints(folder, every, files, lambda: None)
    callback.on_train_start(trainer, None)
    for step in steps:
        trainer.global_step = step
        callback.on_train_batch_end(trainer, None, None, None, 0)
    return sorted(path.name for path in folder.iterdir())


def failing(monkeypatch, number, after=b"half of it"):
    """From now on writing a checkpoint leaves some bytes and raises."""

    def save(checkpoint, file):
        file.write(after)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(checkpoints.torch, "save", save)


def test_the_newest_two_stay(tmp_path):
    assert train(tmp_path, range(1, 8)) == ["00000004.ckpt", "00000006.ckpt"]


def test_a_step_of_several_batches_is_saved_once(tmp_path):
    calls = []
    files = CheckpointFile()
    trainer = FakeTrainer(files)
    trainer.save_checkpoint = lambda path: calls.append(path.name)
    train(tmp_path, [1, 1, 2, 2, 3], files=files, trainer=trainer)
    assert calls == ["00000002.ckpt"]


def test_a_full_disk_costs_one_checkpoint_and_says_what_to_do(tmp_path, monkeypatch, caplog):
    train(tmp_path, [1, 2])
    files = CheckpointFile()
    with monkeypatch.context() as patched:
        failing(patched, errno.ENOSPC)
        assert train(tmp_path, [4], files=files) == ["00000002.ckpt"]
    assert files.failures == 1
    assert "the disk is full (" in caplog.text
    assert "GiB free); make room there. The newest complete one is 00000002.ckpt. Training goes on" in caplog.text
    assert torch.load(newest_checkpoint(tmp_path), weights_only=True)["global_step"] == 2
    assert train(tmp_path, [6], files=files) == ["00000002.ckpt", "00000006.ckpt"]
    assert files.failures == 0


def test_two_failed_checkpoints_in_a_row_end_the_run_with_the_last_one_usable(tmp_path, monkeypatch):
    train(tmp_path, [1, 2])
    failing(monkeypatch, errno.ENOSPC)
    with pytest.raises(
        CheckpointError, match=r"2 checkpoints in a row could not be written .* step 6. The newest comp"
    ):
        train(tmp_path, [4, 6])
    assert newest_checkpoint(tmp_path).name == "00000002.ckpt"


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch, caplog):
    failing(monkeypatch, errno.EROFS)
    train(tmp_path, [2])
    assert "the folder cannot be written; mount it writable, or give yourself the rights" in caplog.text
    assert "There is no earlier one." in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_costs_no_run(tmp_path, caplog):
    train(tmp_path, [2])
    tmp_path.chmod(0o500)
    try:
        assert train(tmp_path, [4]) == ["00000002.ckpt"]
    finally:
        tmp_path.chmod(0o700)
    assert "the folder cannot be written" in caplog.text


def test_killed_while_it_writes_the_one_before_counts(tmp_path, monkeypatch):
    train(tmp_path, [2])
    child = os.fork()
    if child == 0:

        def save(checkpoint, file):
            file.write(b"half of it")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

        checkpoints.torch.save = save
        train(tmp_path, [4])
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000002.ckpt", "00000004.ckpt.part"]
    assert newest_checkpoint(tmp_path).name == "00000002.ckpt"
    assert train(tmp_path, [6]) == ["00000002.ckpt", "00000006.ckpt"]  # and what was left is gone


def test_what_was_written_but_does_not_open_is_no_checkpoint(tmp_path, monkeypatch, caplog):
    train(tmp_path, [2])
    monkeypatch.setattr(checkpoints.torch, "save", lambda checkpoint, file: file.write(b"not a checkpoint"))
    assert train(tmp_path, [4]) == ["00000002.ckpt"]
    assert "00000004.ckpt was not written" in caplog.text


def test_a_broken_checkpoint_is_passed_over_and_named(tmp_path, caplog):
    train(tmp_path, [2])
    (tmp_path / "00000004.ckpt").write_bytes(b"PK but no more")
    assert newest_checkpoint(tmp_path).name == "00000002.ckpt"
    assert "00000004.ckpt does not open" in caplog.text
