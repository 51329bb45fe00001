"""The comparer itself: it passes what is equal, and fails whatever keeps it from comparing."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmret.models.preflmr import to_published
from mmret.parity import Report, compare_folder
from mmret.parity.__main__ import main
from mmret.types import Content
from tests.unit.models.toys import picture, toy_model


@pytest.fixture
def golden(tmp_path):
    """A set of the golden layout, computed by our own model."""
    folder = tmp_path / "deep" / "set"
    model = toy_model()
    to_published(model, folder)
    inputs = model.processor([Content("find: red", (picture(1),)), Content("find: a map")], "query")
    documents = model.processor([Content("red, red"), Content("a map")], "document")
    with torch.no_grad():
        queries, found = model.encode_query(inputs), model.encode_document(documents)
        tensors = {
            "in.query_input_ids": inputs.dense["input_ids"],
            "in.query_attention_mask": inputs.dense["attention_mask"],
            "in.query_pixel_values": inputs.dense["pixel_values"],
            "in.context_input_ids": documents.dense["input_ids"],
            "in.context_attention_mask": documents.dense["attention_mask"],
            "out.query.full.embeddings": queries.vectors,
            "out.context.text.embeddings": found.vectors,
            "out.score_matrix": model.score(queries, found),
        }
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "tensors.safetensors")
    declared = {name: {"shape": list(value.shape)} for name, value in tensors.items()}
    files = {name: "" for name in ("config.json", "model.safetensors", "tensors.safetensors")}
    (folder / "golden.json").write_text(json.dumps({"files": files, "tensors": declared}))
    return folder


def failures(folder):
    return [f"{c.name} {c.note}" for c in compare_folder(folder, Report()).failures]


def test_equal_tensors_pass_at_any_depth(golden, tmp_path):
    for root in (golden, tmp_path):
        report = compare_folder(root, Report())
        assert report.failures == []
        names = {c.name.partition(": ")[2] for c in report.comparisons}
        assert {"out.query.full.embeddings", "out.context.text.embeddings", "out.score_matrix"} <= names


def test_a_changed_tensor_fails(golden):
    stored = load_file(golden / "tensors.safetensors")
    stored["out.score_matrix"][0, 0] += 2e-4
    save_file(stored, golden / "tensors.safetensors")
    assert len(failures(golden)) == 1
    assert "out.score_matrix" in failures(golden)[0]


def test_a_file_that_golden_json_names_and_is_not_there_fails(golden):
    (golden / "config.json").unlink()
    assert any("config.json named by golden.json" in line for line in failures(golden))


def test_a_declared_tensor_that_is_not_there_fails(golden):
    declared = json.loads((golden / "golden.json").read_text())
    declared["tensors"]["out.lost"] = {"shape": [1]}
    (golden / "golden.json").write_text(json.dumps(declared))
    assert failures(golden) == ["set: out.lost declared in golden.json, but not in the file"]


def test_a_checkpoint_that_does_not_load_fails_and_says_why(golden):
    state = load_file(golden / "model.safetensors")
    del state["query_text_encoder_linear.weight"]
    save_file(state, golden / "model.safetensors")
    assert any("missing: query_text_encoder_linear.weight" in line for line in failures(golden))


def test_nothing_to_compare_fails(tmp_path):
    assert any("nothing was compared" in line for line in failures(tmp_path))
    assert any("no such folder" in line for line in failures(tmp_path / "nowhere"))


def test_sets_of_another_kind_are_a_remark(golden):
    other = golden.parent / "other"
    other.mkdir()
    (other / "golden.json").write_text("{}")
    report = compare_folder(golden.parent, Report())
    assert report.failures == []
    assert report.remarks == ["other: no reader yet for this kind of set"]


def test_tensors_nobody_asks_for_are_told(golden):
    stored = load_file(golden / "tensors.safetensors")
    save_file({**stored, "out.unheard_of": torch.ones(1)}, golden / "tensors.safetensors")
    report = compare_folder(golden, Report())
    assert report.failures == []
    assert "out.unheard_of is not compared" in report.remarks[0]


def test_nan_and_other_shapes_fail():
    report = Report()
    report.compare("nan", torch.tensor([float("nan")]), torch.tensor([1.0]), 1.0)
    report.compare("shape", torch.ones(2), torch.ones(3), 1.0)
    assert [c.note for c in report.failures] == ["holds NaN", "shape (2,), expected (3,)"]


def test_relative_errors_are_of_the_largest_entry():
    report = Report()
    report.compare("gradient", torch.tensor([100.05, 0.0]), torch.tensor([100.0, 0.0]), 1e-3, relative=True)
    assert report.comparisons[0].error == pytest.approx(5e-4, rel=1e-3)


def test_the_command_tells_by_its_exit_code(golden, monkeypatch, capsys):
    monkeypatch.setenv("MMRET_GOLDEN", str(golden))
    assert main() == 0
    assert "comparisons, 0 failures" in capsys.readouterr().out
    (golden / "tensors.safetensors").unlink()
    assert main() == 1
    monkeypatch.delenv("MMRET_GOLDEN")
    assert main() == 2
