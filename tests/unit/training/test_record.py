"""What a run writes about itself is there whole or not at all: other ranks read it, and a process may be killed."""

import errno
import json
import os
from pathlib import Path

import pytest

from mmret.errors import EnvironmentProblem
from mmret.recipe import load_recipe
from mmret.training.record import claim, finished


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


def test_a_full_disk_at_the_command_is_said(tmp_path, monkeypatch):
    def full(source, target):
        if str(target).endswith("command.json"):
            raise OSError(errno.ENOSPC, "No space left on device")
        os.rename(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(EnvironmentProblem, match=r"run cannot be written \(No space left on device\); make room"):
        claim(tmp_path / "run", load_recipe("tiny/preflmr", []))
