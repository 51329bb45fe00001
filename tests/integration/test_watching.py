import csv
import errno
import json
import os

import pytest
import torch

from mmret.errors import EnvironmentProblem
from mmret.models import load
from mmret.recipe import RecipeError, load_recipe
from mmret.training import checkpoints, loggers, stage
from mmret.training.stages import run_recipe


def short(toy_recipe, *overrides):
    return load_recipe(toy_recipe, ["~stages.mapping", "stages.joint.steps=6", "evaluation.benchmarks=[]", *overrides])


def measured(toy_recipe, *overrides):
    target = toy_recipe.read_text().split("benchmarks: [")[1].split("]")[0]
    return short(toy_recipe, f"evaluation.during_training=[{target}]", "trainer.evaluate_every=2", *overrides)


def test_the_best_models_are_kept_as_they_were_measured(toy_recipe, tmp_path, monkeypatch):
    values = iter([0.25, 0.75, 0.5])
    weights = {}

    def evaluate(self, model, **_):
        weights[len(weights)] = {name: value.clone() for name, value in model.state_dict().items()}
        return {"shapes/heldout/recall@1": next(values)}

    monkeypatch.setattr(stage.Evaluator, "__call__", evaluate)
    run_recipe(measured(toy_recipe, "trainer.keep_best=shapes/heldout/recall@1", "trainer.num_best=2"))
    best = tmp_path / "run" / "joint" / "best"
    kept = json.loads((best / "best.json").read_text())["kept"]
    assert kept == [{"step": 4, "value": 0.75}, {"step": 6, "value": 0.5}]
    assert sorted(path.name for path in best.iterdir()) == ["00000004", "00000006", "best.json"]
    state = load(best / "00000004").state_dict()
    assert all(torch.equal(value, weights[1][name]) for name, value in state.items())
    assert not (tmp_path / "run" / "joint" / "checkpoints").exists()


def test_a_metric_that_is_not_measured_is_refused_before_training(toy_recipe):
    recipe = measured(toy_recipe, "trainer.keep_best=shapes/heldout/recal@1")
    with pytest.raises(Exception, match=r"shapes/heldout/recal@1 is not measured .*Did you mean"):
        run_recipe(recipe)


def test_keep_best_wants_evaluations_in_training(toy_recipe):
    with pytest.raises(RecipeError, match="keep_best  is val/loss, which is measured where evaluate_every says"):
        short(toy_recipe, "trainer.keep_best=val/loss")


def test_the_numbers_of_a_run_are_in_its_log(toy_recipe, tmp_path):
    run_recipe(short(toy_recipe))
    with (tmp_path / "run" / "joint" / "metrics.csv").open() as file:
        row = list(csv.DictReader(file))[-1]
    assert float(row["train/samples_per_s"]) > 0
    assert 0 <= float(row["train/data_wait"]) <= 1
    assert float(row["train/skipped"]) == 0
    assert float(row["train/peak_memory_mb"]) > 0
    assert "train/mfu" not in row  # nobody knows a CPU's peak


@pytest.mark.parametrize("cached", [False, True])
def test_the_log_counts_optimizer_steps_also_where_batches_add_up(cached, toy_recipe, tmp_path):
    settings = ["~stages.mapping", "trainer.accumulate=2", "stages.joint.steps=8", "evaluation.benchmarks=[]"]
    if cached:
        settings.append("stages.joint.grad_cache={chunk_size: 4}")
    out = run_recipe(load_recipe(toy_recipe, settings))
    with (out / "joint" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "3", "5", "7"]  # from 0, every second
    assert all(row["train/loss"] for row in rows)


def test_a_run_survives_a_checkpoint_that_the_disk_has_no_room_for(toy_recipe, tmp_path, monkeypatch, caplog):
    whole, calls = torch.save, []

    def save(checkpoint, file):
        calls.append(checkpoint["global_step"])
        if len(calls) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(checkpoint, file)

    monkeypatch.setattr(checkpoints.torch, "save", save)
    run_recipe(short(toy_recipe, "trainer.checkpoint_every=2"))
    assert calls[:3] == [2, 4, 6]
    assert "00000002.ckpt was not written: the disk is full" in caplog.text
    assert (tmp_path / "run" / "joint" / "stage.json").is_file()


def test_an_unknown_logger_is_refused_with_the_nearest(toy_recipe):
    with pytest.raises(RecipeError, match=r"must be a list of csv, .* Did you mean .?wandb"):
        short(toy_recipe, "trainer.loggers=[csv,wandbb]")


def test_a_logger_without_its_package_is_named(toy_recipe, tmp_path, monkeypatch):
    def absent(**_):
        raise ModuleNotFoundError("wandb")

    monkeypatch.setattr(loggers.kinds, "WandbLogger", absent)
    recipe = short(toy_recipe, "trainer.loggers=[wandb]")
    with pytest.raises(EnvironmentProblem, match="wandb is not installed; pip install wandb, or leave it out"):
        loggers.build_loggers(recipe, recipe.stages[0], tmp_path, 0)


def test_each_start_of_a_stage_goes_on_in_the_tracker_run_of_the_first(toy_recipe, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(loggers.kinds, "WandbLogger", lambda **settings: made.append(settings))
    recipe = short(toy_recipe, "trainer.loggers=[wandb]")
    loggers.build_loggers(recipe, recipe.stages[0], tmp_path / "a", 0)
    loggers.build_loggers(recipe, recipe.stages[0], tmp_path / "a", 4)
    loggers.build_loggers(recipe, recipe.stages[0], tmp_path / "b", 0)
    assert made[0]["id"] == made[1]["id"] != made[2]["id"]
    assert (made[0]["project"], made[0]["name"], made[0]["resume"]) == ("toy", "joint", "allow")


def test_a_run_folder_that_cannot_be_made_is_named(toy_recipe, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match=r"file/run cannot be written \(Not a directory\)"):
        run_recipe(short(toy_recipe, f"out={tmp_path}/file/run"))
