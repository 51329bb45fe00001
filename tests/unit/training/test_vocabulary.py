"""Classifiers, their data and their benchmarks must agree before anything trains."""

import json

import pytest

from mmret.cli import main
from mmret.data import Sample, write_shards
from mmret.errors import ConfigError
from mmret.recipe import load_recipe
from mmret.training.stages import run_recipe
from mmret.training.vocabulary import class_mismatches

RECIPE = """\
name: toy
out: {folder}/run
model: {{name: vlmo, size: tiny, tokenizer: tiny, image_px: 16, patch_px: 8}}
stages:
  - name: pairs
    steps: 1
    data: {{batch_size: 2, sources: {{{folder}/toy.yaml: 1}}}}
    objectives: {{itc: {{temperature: 0.1}}}}
    optimizer: {{lr: 1e-3}}
  - name: answers
    steps: 1
    data: {{batch_size: 2, sources: {{{folder}/toy.yaml: 1}}}}
    objectives: {{vqa: {{name: classify, num_classes: 3}}}}
    optimizer: {{lr: 1e-3}}
trainer: {{accelerator: cpu}}
evaluation: {{benchmarks: [{folder}/bench.yaml]}}
"""
SPEC = "name: toy\nshards: train.manifest.json\nclasses: classes.txt\n"
BENCHMARK = (
    "name: bench\ntask: classification\nobjective: vqa\nclasses: classes.txt\n"
    "splits: {all: {shards: train.manifest.json}}\n"
)


@pytest.fixture
def recipe(tmp_path):
    """recipe(*overrides) -> the recipe of a folder whose files agree."""
    write_shards([Sample("0", {"query": {"text": "q"}, "label": 1})], tmp_path)
    (tmp_path / "classes.txt").write_text("no\nmaybe\nyes\n")
    (tmp_path / "toy.yaml").write_text(SPEC)
    (tmp_path / "bench.yaml").write_text(BENCHMARK)
    (tmp_path / "r.yaml").write_text(RECIPE.format(folder=tmp_path))
    return lambda *overrides: load_recipe(tmp_path / "r.yaml", overrides)


def places(recipe):
    return [(".".join(map(str, path)), message) for path, message in class_mismatches(recipe)]


def test_where_all_agree_nothing_is_said(recipe):
    assert places(recipe()) == []


def test_a_number_of_classes_that_is_not_the_datas_stops_the_run_before_any_stage(recipe, tmp_path):
    wrong = recipe("stages.answers.objectives.vqa.num_classes=3129")
    (data, benchmark) = places(wrong)
    assert data[0] == "stages.1.objectives.vqa.num_classes"
    assert "toy.yaml has 3 classes" in data[1] and "this objective 3,129; the answer vocabulary must be" in data[1]
    assert benchmark[0] == "evaluation.benchmarks.0" and "has 3 classes" in benchmark[1]
    with pytest.raises(
        ConfigError, match=r"(?s)answer vocabulary.*evaluation.benchmarks.0: has 3 classes .*'vqa' 3,129"
    ):
        run_recipe(wrong)
    assert not (tmp_path / "run").exists()


def test_check_names_the_line_of_the_recipe(recipe, tmp_path, capsys):
    assert main(["check", str(tmp_path / "r.yaml"), "stages.answers.objectives.vqa.num_classes=2"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "stages[1].objectives.vqa.num_classes data.sources" in said and "has 3 classes" in said
    (tmp_path / "classes.txt").unlink()
    assert main(["check", str(tmp_path / "r.yaml"), "--json"]) == 0
    missing = json.loads(capsys.readouterr().out)["missing"]
    assert any("classes.txt (classes)" in line for line in missing)


def test_data_without_classes_is_told(recipe, tmp_path):
    (tmp_path / "toy.yaml").write_text("name: toy\nshards: train.manifest.json\n")
    ((path, message),) = places(recipe())
    assert path == "stages.1.objectives.vqa.num_classes" and "toy.yaml names no `classes`" in message


def test_a_benchmark_whose_head_the_last_stage_has_not_is_told(recipe, tmp_path):
    (tmp_path / "bench.yaml").write_text(BENCHMARK.replace("objective: vqa", "objective: nlvr2"))
    ((path, message),) = places(recipe())
    assert path == "evaluation.benchmarks.0"
    assert message == "is answered by a classify objective named 'nlvr2', which stage answers has not"
    target = f"evaluation.during_training=[{tmp_path / 'bench.yaml'}]"
    ((path, message),) = places(recipe("evaluation.benchmarks=[]", target))
    assert (path, message.endswith("which no stage has")) == ("evaluation.during_training.0", True)
