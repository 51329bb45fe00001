import json
from xml.etree import ElementTree

import pytest

from mmret.cli.main import main
from tests.unit.evaluation.compare.bench_folder import write_bench, write_run


def test_a_bench_is_compared_in_its_own_folder(tmp_path, capsys):
    write_bench(tmp_path / "toys")
    assert main(["report", str(tmp_path / "toys")]) == 0
    said = capsys.readouterr()
    names = ["comparison.md", "comparison.csv", "comparison.html"]
    assert said.out.split() == [str(tmp_path / "toys" / name) for name in names]
    assert "alpha" in said.err and "RuntimeError: too <large>" in said.err


def test_plots_are_written_as_files_that_need_no_page(tmp_path, capsys):
    write_bench(tmp_path / "toys")
    assert main(["report", str(tmp_path / "toys"), "--plots", str(tmp_path / "plots")]) == 0
    plots = {path.name: path.read_text() for path in (tmp_path / "plots").iterdir()}
    # Training FLOPs are known of one variant only.
    assert plots.keys() == {"quality-against-parameters.svg", "quality-by-task.svg"}
    assert all(ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg" for svg in plots.values())
    assert not any("var(" in svg for svg in plots.values()) and "#0072b2" in plots["quality-by-task.svg"]


def test_several_runs_are_compared_beside_each_other_or_where_out_says(tmp_path, capsys):
    runs = [str(write_run(tmp_path / "runs" / name, ["q1"], name=name)) for name in "ab"]
    assert main(["report", *runs]) == 0
    assert (tmp_path / "runs" / "comparison.html").is_file()
    assert main(["report", *runs, "--out", str(tmp_path / "new" / "place"), "--compare", "b", "a"]) == 0
    assert (tmp_path / "new" / "place" / "comparison.csv").is_file()
    assert main(["report", *runs, "--compare", "b", "c"]) == 2
    assert "no finished variant 'c'; known: a, b" in capsys.readouterr().err


def test_a_single_run_keeps_its_own_page(tmp_path, capsys):
    run = write_run(tmp_path / "run", ["q1"])
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    assert not (tmp_path / "comparison.html").exists()
    assert main(["report", str(run), "--compare", "a", "b"]) == 2
    assert "--compare is for a comparison" in capsys.readouterr().err


def test_diff_shows_changed_keys_only(tmp_path, capsys):
    bench = write_bench(tmp_path / "toys")
    runs = [str(bench / name / "seed-0") for name in ("alpha", "beta")]
    assert main(["report", "diff", *runs, "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"model.dim": {"first": "64", "second": "32"}}
    assert "model.dim" in said.err and "batch_size" not in said.err
    assert main(["report", "diff", runs[0], runs[0]]) == 0
    assert "no key differs" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        (["toys", "none"], "none: no such folder"),
        (["toys", "empty"], "neither a run (no metrics.json) nor a bench (no results.json)"),
        (["diff", "toys/alpha/seed-0"], "report diff RUN RUN: two runs, got 1"),
        (["diff", "none", "toys"], "none: no such folder"),
        (
            ["diff", "toys", "empty"],
            "toys: no recipe.yaml, so no run; `mmret run` writes it first. Did you mean toys/al",
        ),
    ],
)
def test_what_is_no_run_is_refused(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_bench(tmp_path / "toys")
    (tmp_path / "empty").mkdir()
    assert main(["report", *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
