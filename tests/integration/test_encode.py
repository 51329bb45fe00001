"""`mmret encode` and `mmret search --encoded` on a trained model, as a user types them."""

import json

import pytest

from mmret.cli.main import main
from mmret.recipe import load_recipe
from mmret.training.stages import run_recipe


@pytest.fixture
def trained(toy_recipe, tmp_path):
    run_recipe(load_recipe(toy_recipe, ["~stages.mapping", "stages.joint.steps=2", "evaluation.benchmarks=[]"]))
    return str(tmp_path / "run")


def test_stored_documents_are_found_as_fresh_ones(trained, toy_source, tmp_path, capsys):
    benchmark, out = str(toy_source.parent / "benchmark.yaml"), str(tmp_path / "corpus")
    encode = ["encode", trained, benchmark, "--out", out, "--rows-per-part", "20"]
    assert main([*encode, "--slice", "2/2"]) == 0
    assert "1 parts written; 1 of other slices are not there yet" in " ".join(capsys.readouterr().err.split())
    search = ["search", trained, f"{benchmark}/heldout", "--k", "3"]
    assert main([*search, "--encoded", out, "--out", str(tmp_path / "early.jsonl")]) == 5
    assert main([*encode, "--slice", "1/2"]) == 0
    assert "32 rows, each id once" in " ".join(capsys.readouterr().err.split())
    assert main([*search, "--out", str(tmp_path / "fresh.jsonl")]) == 0
    assert main([*search, "--encoded", out, "--out", str(tmp_path / "stored.jsonl")]) == 0
    fresh, stored = ((tmp_path / name).read_text().splitlines() for name in ("fresh.jsonl", "stored.jsonl"))
    assert len(stored) == len(fresh) == 64

    def found(line):
        return [document["id"] for document in json.loads(line)["documents"]]

    assert [found(line) for line in stored] == [found(line) for line in fresh]
