"""A recipe from start to end, stopped and gone on with, in small."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from mmret.errors import ConfigError
from tests.builders import build_toy_source
from tests.integration.conftest import metrics


def weights(folder, stage="joint"):
    return load_file(folder / stage / "model" / "model.safetensors")


def assert_same_result(one, other):
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    assert [key for key in a if not torch.equal(a[key], b[key])] == []
    assert metrics(one) == metrics(other)


def test_a_tiny_model_learns_which_passage_answers_a_question_about_a_picture(run, tmp_path):
    spec = build_toy_source(tmp_path / "colours", shapes=("circle",))  # 4 colours x 2 topics: 8 passages
    source = f"{{{spec}: 1}}"
    result = metrics(
        run(
            f"stages.mapping.data.sources={source}",
            f"stages.joint.data.sources={source}",
            "stages.joint.steps=120",
            "stages.joint.data.batch_size=32",
            f"evaluation.benchmarks=[{spec.parent / 'benchmark.yaml'}]",
        )
    )
    assert result["shapes/heldout/recall@1"] > 0.9
    assert result["shapes/heldout/question_only/recall@1"] <= 0.3  # it cannot know the colour
    assert result["shapes/heldout/shuffled_images/recall@1"] <= 0.3
    assert result["shapes/heldout/untrained/recall@1"] <= 0.3


def test_killed_in_the_middle_it_ends_as_if_nothing_had_happened(run, toy_recipe, tmp_path):
    calm = run(f"out={tmp_path / 'calm'}")
    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "mmret", "run", str(toy_recipe), f"out={killed}"]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((killed / "joint").glob("checkpoints/*.ckpt")):
        assert process.poll() is None and time.monotonic() < deadline, "no checkpoint of the second stage in time"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "joint" / "stage.json").exists()
    run(f"out={killed}")
    assert_same_result(calm, killed)


def test_finished_stages_are_skipped_on_rerun(run):
    folder = run()
    before = {stage: (folder / stage / "stage.json").stat().st_mtime_ns for stage in ("mapping", "joint")}
    assert run() == folder
    assert before == {stage: (folder / stage / "stage.json").stat().st_mtime_ns for stage in before}


def test_hand_over_reports_what_was_copied_and_frozen(run):
    folder = run()
    record = json.loads((folder / "joint" / "stage.json").read_text())
    assert any(name.startswith("query_text") for name in record["handover"]["copied"])
    mapping = json.loads((folder / "mapping" / "stage.json").read_text())
    assert 0 < mapping["trainable"] < mapping["parameters"]
    assert any("vision" in name for name in mapping["handover"]["frozen"])
    first, second = weights(folder, "mapping"), weights(folder, "joint")
    assert all(torch.equal(first[key], value) for key, value in first.items() if key.startswith("unused."))
    assert any(key.startswith("query_text.") for key in second)


def test_frozen_parameters_do_not_move(run):
    folder = run()
    first, second = weights(folder, "mapping"), weights(folder, "joint")
    moved = {key.split(".")[0] for key in first if key in second and not torch.equal(first[key], second[key])}
    assert {"document_text", "vision", "mapping"} <= moved  # the joint stage trains all
    again = run("out=" + str(folder) + "2", "stages.joint.lr_scale={vision: 0, '.*': 1}")
    third = weights(again, "joint")
    vision = [key for key in first if key.startswith("vision.")]
    assert vision and all(torch.equal(first[key], third[key]) for key in vision)


def test_a_run_of_another_recipe_is_not_overwritten(run):
    folder = run()
    with pytest.raises(ConfigError, match=r"trained by another recipe .*stage.optimizer.lr: 0.001 there, 0.5 now"):
        run("stages.mapping.optimizer.lr=0.5")
    assert (folder / "metrics.json").exists()
    run("stages.mapping.optimizer.lr=0.5", fresh=True)


def test_cached_features_give_the_same_model_as_live_towers(run, tmp_path):
    freeze = "stages.joint.lr_scale={'vision|_text\\.': 0, '.*': 1}"
    live = run(freeze, f"out={tmp_path / 'live'}")
    cache = f"feature_cache={{folder: {tmp_path / 'features'}, dtype: float32}}"
    cached = run(freeze, cache, f"out={tmp_path / 'cached'}")
    assert list((tmp_path / "features").rglob("*.npz"))
    a, b = weights(live), weights(cached)
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-3, atol=1e-4, msg=key)
