import json

import pytest

from mmret.cli import main
from mmret.data import DataSpec
from mmret.models import PreFLMR
from tests.builders import build_toy_source


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mine")
    PreFLMR(PreFLMR.SIZES["tiny"]).save(folder / "model")
    return str(folder / "model"), str(build_toy_source(folder / "data", num=12)), folder / "out"


def test_a_saved_model_mines_and_the_new_spec_opens(folders, capsys):
    model, data, out = folders
    options = ["--k", "20", "--negatives", "3", "--range", "2:15", "--margin", "0", "--batch-size", "8"]
    code = main(["mine", model, data, "--out", str(out), "--json", *options])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    facts = json.loads(captured.out)
    assert (facts["queries"], facts["documents"], facts["found"]) == (12, 32, 240)
    assert facts["rules"]["ranks"] == [2, 15] and facts["gap"]["p05"] >= 0
    examples = [DataSpec.load(facts["spec"]).open().example(index) for index in range(12)]
    assert sum(len(example.negatives) for example in examples) == facts["negatives"] > 0
    assert max(len(example.negatives) for example in examples) <= 3
    assert "outside --range" in captured.err and "kept as negatives" in captured.err
    assert f"written to {out / 'shapes.yaml'}" in captured.err


@pytest.mark.parametrize(
    "options, message",
    [
        (["--range", "10-50"], "--range: want FROM:TO, two ranks such as 10:50, got '10-50'"),
        (["--range", "10:500"], "--range 10:500: want 0 <= from < to <= 100 (--k)"),
        (["--batch-size", "0"], "--batch-size: must be at least 1, got 0"),
        (["--rerank"], "text on one side and a picture on the other; here queries are text and pictures"),
    ],
)  # fmt: skip
def test_what_cannot_be_mined_says_why(folders, capsys, options, message):
    model, data, out = folders
    assert main(["mine", model, data, "--out", str(out.parent / "none"), *options]) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
