import json
import math

import pytest

from mmret.errors import CheckpointError, ConfigError
from mmret.evaluation.gain import best_loss, gain

SETTINGS = {
    "seed": 0,
    "stage.steps": 300,
    "stage.validation.batch_size": 64,
    "stage.validation.num_workers": 2,
    "stage.validation_batches": 20,
    "stage.objectives.hard_negative.temperature": 1.0,
    "stage.objectives.hard_negative.weight": 1.0,
}


def write_stage(folder, losses, final=None, steps=300, **settings):
    """A finished stage whose log has `losses` {step: val/loss}, beside training losses at other steps."""
    folder.mkdir(parents=True)
    rows = ["step,train/loss,val/loss", "10,9.0,", *(f"{step},,{loss}" for step, loss in losses.items())]
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
    metrics = {} if final is None else {"val/loss": final}
    record = {"steps": steps, "metrics": metrics, "settings": {**SETTINGS, **settings}}
    (folder / "stage.json").write_text(json.dumps(record))
    return folder


def test_gain_by_hand(tmp_path):
    write_stage(tmp_path / "with/full", {100: 1.5, 200: 0.75}, final=0.9)
    write_stage(tmp_path / "without/full", {100: 2.0, 200: 1.25}, final=1.0)
    found = gain(tmp_path / "with", tmp_path / "without")
    assert (found.with_it.loss, found.with_it.step) == (0.75, 200)
    assert (found.without.loss, found.without.step) == (1.0, 300)
    assert found.nats == pytest.approx(0.25)
    assert found.bits == pytest.approx(0.25 / math.log(2))
    assert (found.with_it.still_falling, found.without.still_falling) == (False, True)
    assert not found.other_batches


def test_gain_is_negative_where_the_other_data_hurts(tmp_path):
    a = write_stage(tmp_path / "a", {100: 2.0})
    b = write_stage(tmp_path / "b", {100: 1.5})
    assert gain(a, b).nats == pytest.approx(-0.5)


def test_the_last_stage_with_a_validation_loss_counts_unless_one_is_named(tmp_path):
    write_stage(tmp_path / "run/joint", {50: 3.0})
    write_stage(tmp_path / "run/mapping", {50: 4.0})
    write_stage(tmp_path / "run/polish", {})
    (tmp_path / "run/recipe.yaml").write_text("stages: [{name: mapping}, {name: joint}, {name: polish}]\n")
    assert best_loss(tmp_path / "run").loss == 3.0
    assert best_loss(tmp_path / "run", stage="mapping").loss == 4.0
    assert best_loss(tmp_path / "run/mapping").loss == 4.0


def test_not_a_number_is_never_the_best(tmp_path):
    assert best_loss(write_stage(tmp_path / "s", {1: "nan", 2: 1.0, 3: "inf"})).loss == 1.0


def test_other_validation_data_is_refused_with_both_values(tmp_path):
    a = write_stage(tmp_path / "a", {1: 1.0})
    b = write_stage(tmp_path / "b", {1: 1.0}, **{"stage.validation.batch_size": 32})
    with pytest.raises(ConfigError, match=r"stage\.validation\.batch_size is 64 in .*a, 32 in .*b"):
        gain(a, b)


def test_steps_workers_and_seed_may_differ_and_another_seed_is_told(tmp_path):
    a = write_stage(tmp_path / "a", {1: 1.0})
    b = write_stage(tmp_path / "b", {1: 1.0}, **{"stage.steps": 9, "stage.validation.num_workers": 0, "seed": 1})
    assert gain(a, b).other_batches


def test_a_loss_that_is_not_in_nats_is_refused(tmp_path):
    name = "stage.objectives.hard_negative.temperature"
    a, b = (write_stage(tmp_path / run, {1: 1.0}, **{name: 0.5}) for run in "ab")
    with pytest.raises(ConfigError, match=r"temperature is 0\.5: the loss is then not in nats"):
        gain(a, b)


def test_runs_without_validation_or_without_finished_stage_say_what_to_do(tmp_path):
    write_stage(tmp_path / "run/full", {})
    with pytest.raises(CheckpointError, match=r"no val/loss in full; .*stages\[i\]\.validation"):
        best_loss(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"stage 'joint' is not among the finished ones \(full\)"):
        best_loss(tmp_path / "run", stage="joint")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="no finished stage"):
        best_loss(tmp_path / "empty")
    with pytest.raises(CheckpointError, match="no such run"):
        best_loss(tmp_path / "nowhere")
