"""From tables, frames and pages of MMEB-V2 to its scores: a model that sees colours, and a tiny VLM2Vec."""

import io
import math

import pytest
import torch
from rich.console import Console

from mmret.data.sources.mmeb_v2 import MMEBV2Config, build_mmeb_v2
from mmret.evaluation import Benchmark, Evaluator
from mmret.evaluation.suite import expand_targets, print_suite
from mmret.models import VLM2Vec, VLM2VecConfig
from tests.mmeb_v2_tables import write_frames, write_json, write_pages
from tests.unit.evaluation.toy import WordProcessor, WordRetriever

COLOURS = ["red", "green", "blue"]


class ColourProcessor(WordProcessor):
    """Knows colours alone; sees frames as it sees pictures."""

    def __call__(self, contents, role):
        return super().__call__([_Seen(content) for content in contents], role)


class _Seen:
    def __init__(self, content):
        # Of the words only colours, so that no instruction changes an order.
        self.text = " ".join(word for word in (content.text or "").split() if word in COLOURS)
        self.images = content.pictures


def build(tmp_path, monkeypatch, size=8):
    """Pages with grades, videos found by a caption, classes of videos, moments."""
    monkeypatch.setenv("MMRET_MMEB_V2", str(tmp_path / "out"))
    tables, frames = tmp_path / "tables", tmp_path / "frames"
    pages = dict(enumerate(COLOURS))
    # Red is asked, and green worth more: it is found second or third.
    write_pages(tables, "esg_reports_v2", pages, {1: "red", 2: "blue"}, [(1, 0, 1), (1, 1, 2), (2, 2, 1)])
    write_json(tables, "vatex.jsonl", [{"videoID": name, "enCap": [name]} for name in COLOURS])
    # The last caption is of another video.
    write_json(
        tables,
        "MSR-VTT/test_1k.json",
        [{"video_id": a, "caption": b} for a, b in zip(COLOURS, ("red", "green", "red"))],
    )
    rows = [{"video_id": name, "pos_text": name, "neg_text": COLOURS} for name in COLOURS]
    write_json(tables, "SmthSmthV2/test.jsonl", rows)
    write_json(tables, "qvhighlight.jsonl", [{"video_path": "v.mp4", "query": "green"}])
    for name in COLOURS:
        for place in ("video_ret/VATEX", "video_ret/MSR-VTT", "video_cls/SSv2"):
            write_frames(frames, f"{place}/{name}", name, name, size=size)
    for clip, colour in zip(("query", "positive", "negative_0"), ("blue", "green", "red")):
        write_frames(frames, f"video_mret/QVHighlight/v/{clip}", colour, colour, size=size)
    return build_mmeb_v2(MMEBV2Config(str(tables), str(frames), out=str(tmp_path / "out")))


def test_scores_of_a_model_that_sees_colours_are_those_worked_out_by_hand(tmp_path, monkeypatch):
    built = build(tmp_path, monkeypatch)
    assert len(built) == 5
    found = expand_targets(["mmeb_v2"])
    assert len(found.targets) == 5 and len(found.missing) == 73
    model = WordRetriever()
    model.processor = ColourProcessor()
    metrics = Evaluator(found.targets)(model, controls=True)
    assert metrics["vatex/test/recall@1"] == metrics["smthsmthv2/test/recall@1"] == 1
    assert metrics["msr_vtt/test/recall@1"] == 2 / 3
    assert metrics["smthsmthv2/test/chance/recall@1"] == pytest.approx(1 / 3)
    # Query 1 ranks red (grade 1) first, green (2) second or third; query 2 ranks blue first.
    best = 2 + 1 / math.log2(3)
    first = {round((1 + 2 / math.log2(place + 1)) / best, 9) for place in (2, 3)}
    pages = "vidore_esg_reports_v2_multilingual/test/ndcg@5"
    assert round(2 * metrics[pages] - 1, 9) in first

    console = Console(file=io.StringIO(), width=240)
    (suite,) = found.suites
    print_suite(suite, {"mine": suite.percent(metrics)}, console)
    lines = {
        row.split("│")[1].strip(): [cell.strip() for cell in row.split("│")[2:-1]]
        for row in console.file.getvalue().splitlines()
        if "│" in row
    }
    assert lines["MSR-VTT"] == ["66.7", "27.8"]
    assert lines["ViDoRe esg reports v2"][1] == "45.7"
    assert (
        lines["Qwen3-VL-Embedding 8B"][:3] == ["80.1", "66.1", "83.3"] and lines["Qwen3-VL-Embedding 8B"][-1] == "77.8"
    )
    assert not any(lines["mine"])  # of no part all sets were measured


def test_a_tiny_vlm2vec_gets_the_scores_of_a_loop_over_its_own_similarities(tmp_path, monkeypatch):
    build(tmp_path, monkeypatch, size=32)
    torch.manual_seed(0)
    model = VLM2Vec.from_config(VLM2VecConfig(backbone="tiny:qwen2_vl")).eval()
    names = ("vidore_esg_reports_v2_multilingual", "msr_vtt", "smthsmthv2", "qvhighlight")
    metrics = Evaluator([f"mmeb_v2/{name}" for name in names])(model)
    for name in names:
        split = Benchmark.load(f"mmeb_v2/{name}").split("test")
        gains, hits = zip(*(judged(model, split, row) for row in range(len(split))))
        assert metrics[f"{name}/test/ndcg@5"] == pytest.approx(sum(gains) / len(gains), abs=1e-9)
        assert metrics[f"{name}/test/recall@1"] == pytest.approx(sum(hits) / len(hits))


@torch.no_grad()
def judged(model, split, row):
    """NDCG@5 and hit@1 of one query: encoded alone, its documents one after the other."""
    sample, corpus = split.source.parse(row), split.benchmark.corpus
    asked = model.encode_query(model.processor([split.content(row)], "query")).vectors[0]
    worth = sample.meta.get("relevance") or dict.fromkeys(sample.positives, 1.0)
    scored = []
    for id in sample.meta.get("candidates") or corpus.table.ids():
        seen = model.processor([corpus.content(corpus.table.find(id))], "document")
        scored.append((float(asked @ model.encode_document(seen).vectors[0]), id))
    ranked = [id for _, id in sorted(scored, reverse=True)][:5]
    gain = sum(worth.get(id, 0) / math.log2(place + 2) for place, id in enumerate(ranked))
    best = sum(grade / math.log2(place + 2) for place, grade in enumerate(sorted(worth.values(), reverse=True)[:5]))
    return gain / best, float(ranked[0] in worth)
