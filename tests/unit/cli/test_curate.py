"""`mmret data curate` as a user types it."""

import json

import yaml

from mmret.cli import main
from mmret.data import DataSpec
from mmret.recipe.shipped import names
from tests.unit.data.curate.rows import captioned, source


def test_curate_writes_a_spec_a_report_and_a_page(tmp_path, capsys):
    spec = source(tmp_path / "data", captioned(["cat", "a red dog", "bird", "two birds"]))
    path = tmp_path / "curation.yaml"
    filters = [{"length": {"min_words": 2}}, {"duplicate_images": {"max_distance": 0}}]
    path.write_text(
        yaml.safe_dump({"name": "toy/c", "source": str(spec), "out": str(tmp_path / "out"), "filters": filters})
    )
    assert main(["data", "curate", str(path), "--json"]) == 0
    said = capsys.readouterr()
    facts = json.loads(said.out)
    assert (facts["samples"], facts["kept"]) == (4, 2)
    assert "too few words 2" in said.err
    assert f"data.sources: {{{facts['spec']}: 1}}" in said.err
    assert len(DataSpec.load(facts["spec"]).open()) == 2
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<img") == 4 + 2  # stayed and went, then stayed
    assert 'src="http' not in page
    assert (tmp_path / "out" / "report.md").read_text().startswith("# toy/c\n\n2 of 4 samples")


def test_an_unknown_curation_names_the_nearest(capsys):
    assert main(["data", "curate", "demo/emojis"]) == 2
    assert "Did you mean 'demo/emoji'?" in capsys.readouterr().err


def test_the_shipped_curation_runs(tmp_path, monkeypatch, capsys):
    file = names("curation")["demo/emoji"]
    monkeypatch.chdir(tmp_path)
    assert main(["data", "curate", str(file), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    steps = facts["filters"]
    assert [step["name"] for step in steps] == ["length", "language", "image_size", "duplicate_images", "balance"]
    assert [step["before"] for step in steps] == [2310, *(step["after"] for step in steps[:-1])]
    assert steps[0]["after"] == 1853  # the others depend on the packages' versions
    assert 1000 < facts["kept"] == steps[-1]["after"] == len(DataSpec.load(facts["spec"]).open()) < 1853
