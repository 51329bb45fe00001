"""`mmret data build m2kr`, then `mmret evaluate` and `mmret search` on what it built, with a tiny random model."""

import json

import pytest

from mmret.cli import main
from mmret.cli.console import console
from mmret.evaluation.trec import read_run
from mmret.models import MODELS
from tests.m2kr_tables import picture, write_pictures, write_tables


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Tables of three datasets, pictures, a place for shards."""
    for name in ("IGLUE", "OKVQA", "MSMARCO"):
        write_tables(tmp_path / "tables", name, ("test",))
    write_pictures(tmp_path / "images")
    monkeypatch.setenv("MMRET_M2KR", str(tmp_path / "out"))
    return tmp_path


@pytest.fixture
def checkpoint(root):
    cls = MODELS["preflmr"]
    cls(cls.SIZES["tiny"]).save(root / "model")
    return str(root / "model")


def build(root, *options):
    folders = [f"--{name}={root / folder}" for name, folder in (("tables", "tables"), ("images", "images"))]
    return main(["data", "build", "m2kr", *folders, f"--out={root / 'out'}", *options])


def test_build_reports_what_it_wrote_and_what_was_finished_before(root, capsys):
    assert build(root, "--json") == 0
    first = capsys.readouterr()
    expected = {"queries": 4, "documents": 4}
    assert json.loads(first.out) == {f"{name}/test": expected for name in ("iglue", "msmarco", "okvqa")}
    assert "export MMRET_M2KR=" in first.err and "rows, published" in first.err
    assert build(root) == 0
    assert capsys.readouterr().err.count("finished before") == 3


def test_datasets_and_splits_are_chosen_by_name(root, capsys):
    assert build(root, "--datasets", "okvqa", "MSMARCO", "--split", "test", "--limit", "2", "--json") == 0
    assert set(json.loads(capsys.readouterr().out)) == {"okvqa/test", "msmarco/test"}


@pytest.mark.parametrize(
    "options, message",
    [
        (["--tables", "x"], "--out is missing"),
        (["--tables", "x", "--out", "y", "--splits", "val"], "no split 'val'"),
        (["--tables", "x", "--out", "y", "--limit", "0"], "limit must be at least 1"),
        (["--tables", "x", "--out", "y", "--tabels", "z"], "Did you mean '--tables'"),
    ],
)
def test_wrong_options_are_explained(options, message, capsys):
    assert main(["data", "build", "m2kr", *options]) == 2
    assert message in capsys.readouterr().err


def test_evaluating_the_suite_shows_the_nine_tasks_beside_the_published_rows(root, checkpoint, capsys, monkeypatch):
    monkeypatch.setattr(console, "width", 200)
    build(root)
    capsys.readouterr()
    assert main(["evaluate", checkpoint, "m2kr", "--no-controls", "--json", f"--out={root / 'scores'}"]) == 0
    captured = capsys.readouterr()
    metrics = json.loads(captured.out)
    # Four passages: all are among the first five.
    assert metrics["msmarco/test/recall@5"] == metrics["okvqa/test/pseudo_recall@5"] == 1.0
    line = next(line for line in captured.err.splitlines() if "MSMARCO R@5" in line)
    assert [cell.strip() for cell in line.strip("│").split("│")][1:3] == ["100.0", "79.5"]
    assert "m2kr/wit/test is left out" in captured.err


def test_search_writes_json_lines_for_a_generator(root, checkpoint, capsys):
    build(root)
    out = root / "rag" / "okvqa.jsonl"
    options = ["--format", "rag", "--k", "3", f"--out={out}", f"--images={root / 'rag/images'}"]
    assert main(["search", checkpoint, "m2kr/okvqa/test", *options]) == 0
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert [row["question_id"] for row in rows] == [f"OKVQA_q{number}" for number in range(4)]
    assert [row["question"] for row in rows] == [f"What is thing {number}?" for number in range(4)]
    assert all(len(row["documents"]) == 3 and row["answers"][1] == "a thing" for row in rows)
    assert (out.parent / rows[2]["image"]).read_bytes() == picture(2)
    assert "4 questions, 3 documents each" in capsys.readouterr().err


def test_search_writes_trec_runs_too(root, checkpoint):
    build(root)
    out = root / "okvqa.run"
    assert main(["search", checkpoint, "m2kr/okvqa", "--format", "trec", "--k", "2", f"--out={out}"]) == 0
    run = read_run(out)
    assert len(run) == 4 and all(len(found) == 2 for found in run.values())


def test_search_refuses_more_documents_than_there_are(root, checkpoint, capsys):
    build(root)
    assert main(["search", checkpoint, "m2kr/okvqa/test", "--k", "9", f"--out={root / 'x.jsonl'}"]) == 2
    assert "k must be 1 to 4" in capsys.readouterr().err
