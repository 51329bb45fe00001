"""`mmret data check`, `index`, `peek` and `stats` as a user types them."""

import json
import re

import pytest
import torch

from mmret.cli import main
from mmret.data import MixtureDataModule, Sample
from mmret.recipe.schema import MixtureConfig, SourceConfig
from tests.unit.data.care.sets import healthy, pairs, samples
from tests.unit.data.care.test_statistics import rows
from tests.unit.models.vlmo.toys import toy_model


def test_an_indexed_img2dataset_folder_trains(tmp_path, capsys):
    """From the tars on disk to VLMo's contrastive inputs: each picture beside its own caption."""
    pairs(tmp_path / "cc3", shard="00000")
    pairs(tmp_path / "cc3", shard="00001", start=5)
    assert main(["data", "index", str(tmp_path / "cc3"), "--json"]) == 0
    said = capsys.readouterr()
    facts = json.loads(said.out)
    assert (facts["samples"], facts["layout"], facts["left_out"]) == (10, "pairs", [])
    assert f"data.sources: {{{facts['spec']}: 1}}" in said.err
    processor = toy_model(vocabulary=None).processor
    mixture = MixtureConfig(sources={facts["spec"]: SourceConfig()}, batch_size=5)
    data = MixtureDataModule(mixture, processor, frozenset(), seed=0, batches=2)
    seen = set()
    for batch in data.train_dataloader():
        assert batch.query.dense["pixel_values"].shape == (5, 3, 16, 16)
        for row, key in enumerate(batch.keys):
            number = int(key[-4:])
            seen.add(number)
            ids, mask = processor.encode([f"a picture of thing {number}"])
            own = batch.document.dense["input_ids"][row][batch.document.dense["attention_mask"][row].bool()]
            assert torch.equal(own, ids[0][mask[0].bool()])
    assert seen == set(range(10))


def test_check_says_what_is_wrong_where_and_fails(tmp_path, capsys):
    spec = healthy(tmp_path / "good")
    assert main(["data", "check", str(spec)]) == 0
    assert "toy/care: nothing wrong in 2 shards, 6 samples, 7 pictures" in capsys.readouterr().err

    broken = samples()
    broken[4] = Sample("0004", {"query": {"text": "no picture"}, "positives": ["d1"]})
    bad = healthy(tmp_path / "bad", broken)
    assert main(["data", "check", str(spec), str(bad), "--json"]) == 4
    said = capsys.readouterr()
    reports = json.loads(said.out)
    assert [report["healthy"] for report in reports] == [True, False]
    assert reports[1]["counts"] == {"missing field": 1}
    assert reports[1]["faults"][0]["key"] == "0004"
    assert "1 faults in 2 shards" in said.err
    assert "missing field" in said.err
    assert "0004" in said.err


def test_many_faults_are_cut_and_summed_up(tmp_path, capsys):
    broken = [Sample(f"{n:04d}", {"query": {"text": "x"}, "positives": ["d1"]}) for n in range(60)]
    assert main(["data", "check", str(healthy(tmp_path, broken))]) == 4
    assert "... and 20 more; in all: 60 missing field" in capsys.readouterr().err


def test_peek_shows_texts_and_sizes_and_what_is_broken(tmp_path, capsys):
    given = samples(3, negatives=["d1"] * 5, colour="red")
    given[1] = Sample("0001", {"query": {"text": "no picture"}, "positives": ["d1"]})
    spec = str(healthy(tmp_path, given))
    assert main(["data", "peek", spec]) == 0
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    for part in ("question 0", "picture 12 x 8 px", "[d0]", "passage 0", "2 more negatives", "colour: red",
                 "2 of 3", "declares it required"):  # fmt: skip
        assert part in said
    assert main(["data", "peek", spec, "-n", "0"]) == 2


def test_a_contact_sheet_stands_alone(tmp_path, capsys):
    given = samples(4, note="<script>alert(1)</script>")
    given[1] = Sample("0001", {"query": {"text": "no picture"}, "positives": ["d1"]})
    page = tmp_path / "sheet.html"
    assert main(["data", "peek", str(healthy(tmp_path / "set", given)), "-n", "4", "--html", str(page)]) == 0
    assert capsys.readouterr().out.strip() == str(page)
    text = page.read_text()
    assert len(re.findall(r'<img src="data:image/png;base64,', text)) == 5  # three queries', twice that of d0
    assert text.count("<article") == 4
    assert "question 3" in text
    assert "declares it required" in text
    assert "<script" not in text
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert main(["data", "peek", str(tmp_path / "set" / "spec.yaml"), "--html", str(tmp_path / "no" / "x.html")]) == 2


def test_statistics_as_tables_page_and_json(tmp_path, capsys):
    spec, page = str(healthy(tmp_path, rows())), tmp_path / "stats.html"
    assert main(["data", "stats", spec, "--html", str(page), "--json"]) == 0
    said = capsys.readouterr()
    facts = json.loads(said.out)
    assert facts["samples"] == 5
    assert facts["queries"]["words"] == [1, 1, 2, 3, 3]
    assert facts["queries"]["shorter side, px"] == [10, 10, 10, 20, 20]
    assert "shorter side, px" in said.err
    text = page.read_text()
    assert text.count("<svg") == 3  # words, shorter side, shape of queries; all else is always the same
    assert "40, always" in text
    for used in set(re.findall(r'(?:href="|url\()#([^")]+)', text)):
        assert text.count(f' id="{used}"') == 1  # plots share no clip paths
    assert not re.search(r'(src|href)="(?!data:|#)', text)


def test_a_manifest_alone_will_do(tmp_path, capsys):
    healthy(tmp_path)
    manifest = str(tmp_path / "train.manifest.json")
    assert main(["data", "check", manifest]) == 0
    assert main(["data", "peek", manifest, "-n", "1"]) == 0
    assert main(["data", "stats", manifest]) == 0
    assert "train: 6 samples in 2 shards" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["data", "chek", "x"],
            "has no action 'chek'; known: build, check, curate, index, join, peek, recaption, stats. "
            "Did you mean 'check'?",
        ),
        (["data", "check", "no/such"], "no data spec 'no/such'"),
        (["data", "check", "none.json"], "no such manifest"),
        (["data", "check", "x", "--workers", "0"], "--workers: must be at least 1, got 0"),
        (["data"], "mmret data ACTION"),
    ],
)
def test_what_cannot_be_is_said(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
