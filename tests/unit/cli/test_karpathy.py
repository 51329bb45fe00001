"""`mmret data build karpathy`, then `mmret evaluate ... coco` with and without re-ranking, with a tiny random VLMo."""

import json

import pytest
import torch

from mmret.cli import main
from mmret.cli.console import console
from mmret.models import MODELS
from mmret.objectives import ITC, ITM, ITCConfig, ITMConfig, save_objectives
from tests.karpathy_files import write_files


@pytest.fixture
def root(tmp_path, monkeypatch):
    write_files(tmp_path)
    monkeypatch.setenv("MMRET_COCO", str(tmp_path / "out"))
    monkeypatch.setattr(console, "width", 200)
    return tmp_path


def save_model(folder, with_itm=True):
    torch.manual_seed(1)
    cls = MODELS["vlmo"]
    model = cls(cls.SIZES["tiny"])
    model.save(folder)
    objectives = {"itc": ITC(ITCConfig(temperature=0.07))}
    if with_itm:
        objectives["itm"] = ITM(ITMConfig(), model.width)
    save_objectives(torch.nn.ModuleDict(objectives), folder)
    return str(folder)


def build(root, *options):
    folders = [f"--annotations={root / 'dataset_coco.json'}", f"--images={root / 'images'}", f"--out={root / 'out'}"]
    return main(["data", "build", "karpathy", *folders, *options])


def cells(text, title):
    line = next(line for line in text.splitlines() if line.startswith(f"│ {title} "))
    return [cell.strip() for cell in line.strip("│").split("│")][1:]


def test_build_says_what_it_wrote_and_where_the_specs_look_for_it(root, capsys):
    assert build(root, "--splits", "test", "val", "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "coco/val_text_to_image": {"queries": 10, "documents": 2},
        "coco/val_image_to_text": {"queries": 2, "documents": 10},
        "coco/test_text_to_image": {"queries": 15, "documents": 3},
        "coco/test_image_to_text": {"queries": 3, "documents": 15},
    }
    assert f"export MMRET_COCO={root / 'out'}" in captured.err
    build(root, "--splits", "test", "val")
    assert capsys.readouterr().err.count("finished before") == 4


def test_without_out_it_goes_where_the_specs_look_by_default(root, capsys, monkeypatch):
    monkeypatch.chdir(root)
    assert main(["data", "build", "karpathy", "--annotations=dataset_coco.json", "--images=images"]) == 0
    assert (root / "data/coco/train_text_to_image.manifest.json").is_file()
    assert f"export MMRET_COCO={root / 'data/coco'}" in capsys.readouterr().err


def test_the_suite_shows_both_ways_their_mean_and_the_published_rows(root, capsys):
    build(root)
    checkpoint = save_model(root / "model", with_itm=False)
    capsys.readouterr()
    assert main(["evaluate", checkpoint, "coco", "--no-controls", "--json"]) == 0
    captured = capsys.readouterr()
    metrics = json.loads(captured.out)
    names = [f"coco_{way}/test/recall@{k}" for way in ("tr", "ir") for k in (1, 5, 10)]
    assert metrics["coco/mean"] == pytest.approx(sum(metrics[name] for name in names) / 6)
    # Three pictures; fifteen captions, five of each: a picture is always found among ten.
    assert metrics["coco_ir/test/recall@5"] == 1.0
    assert cells(captured.err, "TR R@1")[1:] == ["74.8", "76.3", "78.2", "83.1"]
    assert cells(captured.err, "IR R@5") == ["100.0", "", "", "", "86.5"]
    assert cells(captured.err, "mean of all") == [f"{100 * metrics['coco/mean']:.1f}", "", "", "", "86.9"]
    assert "published" in captured.err and "VLMo base-plus" in captured.err


def test_re_ranked_numbers_stand_in_a_column_of_their_own(root, capsys):
    build(root, "--splits", "test")
    checkpoint = save_model(root / "model")
    capsys.readouterr()
    options = ["--no-controls", "--json", "--rerank", "2", f"--out={root / 'scores'}"]
    assert main(["evaluate", checkpoint, "coco", *options]) == 0
    captured = capsys.readouterr()
    metrics = json.loads(captured.out)
    shown = [metrics["coco_ir/test/recall@1"], metrics["coco_ir/test/reranked/recall@1"]]
    assert cells(captured.err, "IR R@1")[:2] == [f"{100 * value:.1f}" for value in shown]
    assert "model\nre-ranked" in captured.err or "re-ranked" in captured.err
    assert metrics["coco/reranked/mean"] > 0
    assert (root / "scores/coco_ir/test.reranked.run").is_file()


@pytest.mark.parametrize(
    "options, message",
    [
        (["--rerank", "0"], "k must be >= 1, got 0"),
        (["--rerank-score", "itm"], "--rerank-score says how to re-rank; give --rerank K beside it"),
        (["--rerank", "2"], "needs the head of an itm objective, and this model was trained with itc"),
    ],
)
def test_what_cannot_be_re_ranked_is_explained(root, capsys, options, message):
    build(root, "--splits", "test")
    checkpoint = save_model(root / "model", with_itm=False)
    assert main(["evaluate", checkpoint, "coco", *options]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
