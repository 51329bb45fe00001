"""Adapters on the command line: merged, written alone, and embeddings cut to their leading numbers."""

import json

import pytest
import torch

from mmret.cli import main
from mmret.models import VLM2Vec, VLM2VecConfig, load
from tests.builders import build_toy_source
from tests.unit.models.vlm2vec.test_tuning import KINDS, trained, vectors


@pytest.fixture
def folder(tmp_path):
    trained(KINDS["dora"]).save(tmp_path / "ours")
    return tmp_path / "ours"


def test_merged_weights_need_no_peft(folder, tmp_path):
    assert main(["convert", str(folder), str(tmp_path / "merged"), "--merge"]) == 0
    again = load(tmp_path / "merged")
    assert again.config.peft == {}
    assert torch.allclose(vectors(again), vectors(load(folder)), atol=1e-5)


def test_adapters_are_written_alone(folder, tmp_path):
    assert main(["convert", str(folder), str(tmp_path / "alone"), "--to", "adapter"]) == 0
    alone = tmp_path / "alone"
    assert {path.name for path in alone.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    assert json.loads((alone / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny"


def test_embeddings_keep_their_leading_numbers(folder, tmp_path):
    assert main(["convert", str(folder), str(tmp_path / "short"), "dim=6"]) == 0
    assert vectors(load(tmp_path / "short")).shape[1] == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--merge"], "has no adapters"), (["--to", "adapter"], "has no adapters")],
)
def test_a_model_without_adapters_says_so(options, message, tmp_path, capsys):
    VLM2Vec(VLM2VecConfig(backbone="tiny")).save(tmp_path / "bare")
    assert main(["convert", str(tmp_path / "bare"), str(tmp_path / "out"), *options]) != 0
    assert message in " ".join(capsys.readouterr().err.split())


def test_merging_and_writing_adapters_is_a_contradiction(folder, tmp_path, capsys):
    assert main(["convert", str(folder), str(tmp_path / "out"), "--merge", "--to", "adapter"]) != 0
    assert "--merge leaves no adapters" in capsys.readouterr().err


def test_evaluate_measures_the_leading_numbers(folder, tmp_path, capsys):
    build_toy_source(tmp_path / "toy", num=12)
    benchmark = str(tmp_path / "toy" / "benchmark.yaml")
    found = {}
    for dim in (None, 2, 32):
        options = [] if dim is None else ["--dim", str(dim)]
        assert main(["evaluate", str(folder), benchmark, "--no-controls", "--json", *options]) == 0
        found[dim] = json.loads(capsys.readouterr().out)
    assert found[32] == found[None]  # all of them
    assert found[2] != found[None]
