import json

import ir_measures
import pyarrow.parquet as pq
import pytest
import torch
from ir_measures import RR, Success
from torch import nn

import mmret.evaluation.evaluator as module
from mmret.errors import ConfigError
from mmret.evaluation import Benchmark, Evaluator, evaluate, evaluate_checkpoint
from mmret.evaluation.trec import read_run
from tests.builders import build_toy_source
from tests.unit.evaluation.toy import WordRetriever


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    build_toy_source(folder, num=8)
    return folder


def benchmark(folder):
    return str(folder / "benchmark.yaml")


def test_metrics_equal_a_slow_loop_over_queries_and_documents(folder):
    model = WordRetriever().eval()
    split = Benchmark.load(benchmark(folder)).split("heldout")
    corpus = split.benchmark.corpus
    documents = model.encode_document(model.processor([corpus.content(r) for r in range(32)], "document"))
    hits, reciprocal, answered = [], [], []
    for row in range(len(split)):
        query = split.source.example(row)
        scores = model.score(model.encode_query(model.processor([query.query], "query")), documents)[0].tolist()
        ranking = sorted(range(32), key=lambda r: (-scores[r], r))
        place = ranking.index(next(r for r in ranking if corpus.id(r) == query.positives[0].id)) + 1
        hits.append(place <= 5)
        reciprocal.append(1 / place)
        texts = [corpus.text(r).lower() for r in ranking[:5]]
        answered.append(any(a.lower() in text for a in query.meta["answers"] for text in texts))
    metrics = Evaluator([benchmark(folder)])(model)
    assert metrics["shapes/heldout/recall@5"] == pytest.approx(sum(hits) / 64)
    assert metrics["shapes/heldout/mrr"] == pytest.approx(sum(reciprocal) / 64)
    assert metrics["shapes/heldout/pseudo_recall@5"] == pytest.approx(sum(answered) / 64)
    assert 0 < metrics["shapes/heldout/recall@1"] < metrics["shapes/heldout/recall@10"]


def test_group_metrics_average_to_the_whole(folder):
    metrics = Evaluator([benchmark(folder)])(WordRetriever())
    groups = [metrics[f"shapes/heldout/topic={topic}/mrr"] for topic in ("maker", "price")]
    assert sum(groups) / 2 == pytest.approx(metrics["shapes/heldout/mrr"])


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_rankings_do_not_depend_on_the_batch_size(folder, batch_size):
    expected = Evaluator([benchmark(folder)]).measure(WordRetriever()).results[0]
    found = Evaluator([benchmark(folder)], batch_size=batch_size).measure(WordRetriever()).results[0]
    assert torch.equal(expected.rows, found.rows)


def test_loader_workers_change_nothing(folder):
    expected = Evaluator([benchmark(folder)])(WordRetriever())
    assert Evaluator([benchmark(folder)], num_workers=1)(WordRetriever()) == expected


def test_controls_take_away_what_they_say(folder):
    metrics = Evaluator([benchmark(folder)])(WordRetriever(), controls=True, untrained=lambda: WordRetriever(seed=1))
    full, name = metrics["shapes/heldout/recall@1"], "shapes/heldout/{}/recall@1"
    assert metrics[name.format("chance")] == pytest.approx(1 / 32)
    assert metrics["shapes/heldout/chance/pseudo_recall@5"] > metrics["shapes/heldout/chance/recall@5"] * 0.99
    # All questions of a topic then rank alike: at best one passage of 16 is found.
    assert metrics[name.format("question_only")] <= 1 / 16 < full
    assert metrics[name.format("shuffled_images")] < full
    assert metrics[name.format("untrained")] == pytest.approx(full, abs=0.2)
    assert not any("topic=" in key for key in metrics if "question_only" in key)


def test_the_corpus_is_encoded_once_for_all_splits_and_controls(folder):
    model = WordRetriever()
    Evaluator([benchmark(folder)])(model, controls=True)
    assert model.num_documents == 32


def test_evaluation_leaves_no_trace_on_modes_gradients_and_random_state(folder):
    model = WordRetriever().train()
    model.frozen.eval()
    state, modes = torch.get_rng_state(), {name: m.training for name, m in model.named_modules()}
    with torch.enable_grad():
        Evaluator([benchmark(folder)])(model, controls=True)
        assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)
    assert {name: m.training for name, m in model.named_modules()} == modes and modes["frozen"] is False
    assert not any(p.is_inference() for p in model.parameters())


def test_an_error_in_the_middle_restores_the_mode_too(folder):
    model = WordRetriever().train()
    model.score = lambda queries, documents: 1 / 0
    with pytest.raises(ZeroDivisionError):
        Evaluator([benchmark(folder)])(model)
    assert model.training and model.dropout.training


def test_written_files_score_the_same_with_ir_measures(folder, tmp_path):
    metrics = Evaluator([benchmark(folder)], out=tmp_path)(WordRetriever(), controls=True)
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    qrels = list(ir_measures.read_trec_qrels(str(tmp_path / "shapes" / "heldout.qrels")))
    for prefix, file in (("shapes/heldout", "heldout"), ("shapes/heldout/question_only", "heldout.question_only")):
        run = list(ir_measures.read_trec_run(str(tmp_path / "shapes" / f"{file}.run")))
        found = ir_measures.calc_aggregate([Success @ 1, Success @ 5, RR], qrels, run)
        assert metrics[f"{prefix}/recall@1"] == pytest.approx(found[Success @ 1])
        assert metrics[f"{prefix}/recall@5"] == pytest.approx(found[Success @ 5])
        assert metrics[f"{prefix}/mrr"] == pytest.approx(found[RR])


def test_per_query_values_and_structure_are_kept_for_later_tests(folder, tmp_path):
    metrics = Evaluator([benchmark(folder)], out=tmp_path)(WordRetriever(), controls=True)
    rows = pq.read_table(tmp_path / "queries.parquet").to_pylist()
    assert len(rows) == 64 * 5
    own = [row for row in rows if row["control"] is None]
    assert sum(row["mrr"] for row in own) / 64 == pytest.approx(metrics["shapes/heldout/mrr"])
    assert all(row["mrr"] == pytest.approx(1 / row["first_place"]) for row in own)
    assert {row["group"] for row in own} == {"price", "maker"}
    run = read_run(tmp_path / "shapes" / "heldout.run")
    assert list(run) == [row["query"] for row in own] and all(len(found) == 32 for found in run.values())
    structure = json.loads((tmp_path / "evaluation.json").read_text())["benchmarks"][0]
    assert structure["documents"] == 32 and structure["splits"]["heldout"]["queries"] == 64
    assert structure["splits"]["heldout"]["groups"] == {"maker": 32, "price": 32}
    assert structure["splits"]["heldout"]["controls"] == ["question_only", "image_only", "shuffled_images", "chance"]


def test_everything_that_is_encoded_is_announced(folder):
    evaluator = Evaluator([benchmark(folder)])
    contents = list(evaluator.contents())
    seen = {(role, content.text, *(image.key for image in content.images)) for role, content in contents}
    model = WordRetriever()

    class Recording(type(model.processor)):
        def __call__(self, contents, role):
            for content in contents:
                # A feature cache asks per tower: texts and images apart.
                assert any(role == r and content.text == text for r, text, *_ in seen)
                assert all(any(image.key in keys for r, _, *keys in seen if r == role) for image in content.images)
            return super().__call__(contents, role)

    model.processor = Recording()
    evaluator(model, controls=True)
    assert evaluator.wants("untrained") and not evaluator.wants("nonsense")


def test_evaluate_and_a_checkpoint_give_the_same_numbers_as_the_live_model(folder, monkeypatch):
    live = Evaluator([benchmark(folder)])(WordRetriever())
    assert evaluate(WordRetriever(), benchmark(folder), "heldout").flat() == live
    monkeypatch.setattr(module, "load", lambda folder: WordRetriever())
    assert evaluate_checkpoint("anywhere", Evaluator([benchmark(folder)]), controls=False).metrics == live


def test_two_benchmarks_whose_metrics_would_share_names_are_refused(folder):
    other = folder / "other.yaml"
    other.write_text((folder / "benchmark.yaml").read_text().replace("toy/shapes", "else/shapes"))
    with pytest.raises(ConfigError, match=r"toy/shapes and else/shapes would both write metrics named shapes/"):
        Evaluator([benchmark(folder), str(other)])


def test_one_split_is_measured_once_however_it_is_named(folder):
    evaluator = Evaluator([benchmark(folder), benchmark(folder) + "/heldout"])
    assert [splits for _, splits in evaluator.benchmarks] == [["heldout"]]


def test_a_check_before_training_finds_what_would_fail_after_it(folder, tmp_path):
    Evaluator([benchmark(folder)]).check()
    text = (folder / "benchmark.yaml").read_text()
    for name in ("passages.arrow", "heldout.manifest.json"):
        text = text.replace(name, str(folder / name))
    (tmp_path / "alike.yaml").write_text(text + "image_group: kind_of_row\n")
    Evaluator([str(tmp_path / "alike.yaml")]).check()
    (tmp_path / "gone.yaml").write_text(text.replace("heldout.manifest.json", "gone.manifest.json"))
    with pytest.raises(ConfigError, match=r"gone.manifest.json"):
        Evaluator([str(tmp_path / "gone.yaml")]).check()


def test_metrics_come_in_the_benchmarks_order(folder):
    names = list(evaluate(WordRetriever(), benchmark(folder), "heldout").metrics)
    assert names[:5] == ["recall@1", "recall@5", "recall@10", "pseudo_recall@5", "mrr"]


def test_a_stage_without_retrieval_heads_leaves_retrieval_out(caplog):
    evaluator = Evaluator(["demo/emoji/validation"])
    evaluator.leave_out_headless(nn.ModuleDict())
    assert len(evaluator.benchmarks) == 1
    with caplog.at_level("INFO"):
        evaluator.leave_out_headless(nn.ModuleDict(), retrieves=False)
    assert evaluator.benchmarks == [] and "has not their heads: demo/emoji" in caplog.text
