import json

import pytest

from mmret.cli import main
from tests.unit.evaluation.test_gain import write_stage


def test_gain_is_shown_and_given_to_programs(tmp_path, capsys):
    write_stage(tmp_path / "a/full", {100: 0.75, 200: 0.9})
    write_stage(tmp_path / "b/full", {100: 1.25, 200: 1.0})
    assert main(["report", "gain", str(tmp_path / "a"), str(tmp_path / "b"), "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["nats"] == pytest.approx(0.25)
    assert (found["with"]["step"], found["without"]["step"]) == (100, 200)
    assert "gain +0.2500 nats" in captured.err and captured.err.count("still falling") == 1


def test_gain_wants_two_runs_that_exist(tmp_path, capsys):
    assert main(["report", "gain", str(tmp_path)]) == 2
    assert main(["report", "gain", str(tmp_path / "a"), str(tmp_path / "b")]) == 5
    assert "no such run" in capsys.readouterr().err
