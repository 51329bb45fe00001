import errno
import json
import os

import pytest

from mmret.errors import CheckpointError, ConfigError
from mmret.training.best import BestModels, best_models


def offered(folder, values, metric="flags/recall@1", num=2):
    best = BestModels(folder, metric, num)
    for step, value in values.items():
        best.offer(step, {metric: value}, lambda path, step=step: (path / "weights").write_text(str(step)))
    return best


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def test_the_best_stay_and_of_equal_ones_the_earlier(tmp_path):
    offered(tmp_path, {10: 0.3, 20: 0.5, 30: 0.1, 40: 0.4, 50: 0.5, 60: 0.5})
    assert names(tmp_path) == ["00000020", "00000050"]
    assert (tmp_path / "00000050" / "weights").read_text() == "50"
    assert json.loads((tmp_path / "best.json").read_text()) == {
        "metric": "flags/recall@1",
        "kept": [{"step": 20, "value": 0.5}, {"step": 50, "value": 0.5}],
    }


def test_the_smallest_loss_is_the_best(tmp_path):
    offered(tmp_path, {10: 3.0, 20: 1.0, 30: 2.0}, metric="val/loss", num=1)
    assert names(tmp_path) == ["00000020"]


def test_a_later_start_goes_on_from_what_was_kept(tmp_path):
    offered(tmp_path, {10: 0.3, 20: 0.5}, num=1)
    offered(tmp_path, {20: 0.5, 30: 0.4}, num=1)
    assert names(tmp_path) == ["00000020"]
    offered(tmp_path, {40: 0.6}, num=1)
    assert names(tmp_path) == ["00000040"]


def test_what_is_no_number_is_never_the_best(tmp_path):
    offered(tmp_path, {10: float("nan"), 20: 0.1}, num=1)
    assert names(tmp_path) == ["00000020"]


def test_a_full_disk_leaves_the_best_before(tmp_path, caplog):
    best = offered(tmp_path, {10: 0.3}, num=1)

    def full(path):
        (path / "weights").write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert not best.offer(20, {"flags/recall@1": 0.5}, full)
    assert names(tmp_path) == ["00000010"]
    assert "step 20, best in flags/recall@1, was not kept" in caplog.text and "the disk is full" in caplog.text
    with pytest.raises(CheckpointError, match="second in a row"):
        best.offer(30, {"flags/recall@1": 0.6}, full)
    assert names(tmp_path) == ["00000010"]


def test_a_metric_that_nothing_measures_is_refused_with_the_nearest(tmp_path):
    class Wanted:
        class trainer:
            keep_best = "flags/heldout/recal@1"

    with pytest.raises(ConfigError, match=r"recal@1 is not measured .*Did you mean .?flags/heldout/recall@1"):
        best_models(Wanted, None, None, ["flags/heldout/recall@1", "flags/heldout/mrr"], tmp_path)
