"""A tiny VLMo learns to answer easy-VQA, through the same path as any recipe, and is asked again from its folder."""

import json

import pytest
import torch

from mmret.cli import main
from mmret.evaluation import Benchmark
from mmret.evaluation.classification import by_majority
from mmret.models import load
from mmret.objectives import load_objectives
from mmret.recipe import load_recipe
from mmret.training.stages import run_recipe

RECIPE = """\
name: answers
seed: 1
out: {out}
model:
  {{name: vlmo, size: tiny, tokenizer: tiny, image_px: 32, patch_px: 16, drop_path: 0, layer_scale: 0,
    contrastive: none}}
stages:
  - name: answers
    steps: 150
    data: {{batch_size: 32, sources: {{demo/easy_vqa: 1}}}}
    objectives: {{vqa: {{name: classify, num_classes: 13}}}}
    optimizer: {{lr: 4e-3}}
trainer: {{accelerator: cpu, log_every: 50, evaluate_every: 150}}
evaluation:
  benchmarks: [demo/easy_vqa_answers/validation]
  during_training: [demo/easy_vqa_answers/validation]
"""
PREFIX = "easy_vqa_answers/validation"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of the finished run."""
    folder = tmp_path_factory.mktemp("classify")
    (folder / "answers.yaml").write_text(RECIPE.format(out=folder / "run"))
    return run_recipe(load_recipe(folder / "answers.yaml"))


def test_a_head_learns_more_than_the_best_constant_answer(trained):
    metrics = json.loads((trained / "metrics.json").read_text())
    constant = by_majority(Benchmark.load("demo/easy_vqa_answers").split("validation")).metrics["accuracy"]
    assert constant == pytest.approx(0.392, abs=1e-3)
    assert metrics[f"{PREFIX}/accuracy"] > constant + 0.15
    assert metrics[f"{PREFIX}/kind=shape/accuracy"] > 0.1  # no constant yes reaches anything here
    during = json.loads((trained / "answers" / "stage.json").read_text())["metrics"]
    assert during == pytest.approx(metrics)
    assert (trained / "report.html").stat().st_size > 10_000


def test_the_folder_of_the_run_answers_as_the_live_model_did(trained, tmp_path):
    assert main(["evaluate", str(trained), "--out", str(tmp_path)]) == 0
    again = json.loads((tmp_path / "metrics.json").read_text())
    assert again == pytest.approx(json.loads((trained / "metrics.json").read_text()))
    rows = json.loads((tmp_path / "easy_vqa_answers" / "validation.predictions.json").read_text())
    assert len(rows) == 584 and {row["answer"] for row in rows} <= set(
        Benchmark.load("demo/easy_vqa_answers").classes.names
    )
    model = load(trained / "answers")
    heads = load_objectives(trained / "answers" / "model", model)
    assert heads["vqa"].config.num_classes == 13
    assert all(torch.isfinite(p).all() for p in heads.parameters())
