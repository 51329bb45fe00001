import io
import json

import pytest
import torch
from rich.console import Console

from mmret.errors import ConfigError
from mmret.evaluation import Evaluator
from mmret.evaluation.report import write_report
from mmret.evaluation.rerank import reorder
from mmret.evaluation.suite import Suite, Task
from mmret.evaluation.tables import tables
from mmret.evaluation.terminal import terminal_table
from mmret.evaluation.trec import read_run
from mmret.models import VLMo
from mmret.recipe.rerank import RerankConfig
from tests.builders import build_toy_source
from tests.unit.evaluation.pairs import NUM, Pairs, heads, write_benchmarks
from tests.unit.evaluation.toy import WordRetriever

WAVY = ((0.0, 0.3, 0.0), (0.0, 1.0, 0.2))
"""A head that knows nothing of matches, and gives all pairs another score."""


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory):
    return write_benchmarks(tmp_path_factory.mktemp("pairs"))


def measure(targets, config, objectives=None, model=None, **settings):
    evaluation = Evaluator(targets, **settings).measure(
        model or Pairs().train(), objectives=objectives or heads(), rerank=config
    )
    return {result.prefix: result for result in evaluation.results}


@pytest.mark.parametrize("score", ["itm", "itm_plus_cosine"])
@pytest.mark.parametrize("way", ["tr", "ir"])
def test_rankings_equal_a_loop_over_queries_and_documents(benchmarks, way, score):
    objectives = heads(WAVY)
    found = measure(benchmarks, RerankConfig(5, score), objectives)
    own, again = found[f"{way}/test"], found[f"{way}/test/reranked"]
    model, head = Pairs().eval(), objectives["itm"].head
    for query in range(NUM):
        scored = []
        for place in range(5):
            document = int(own.rows[query, place])
            corpus = own.split.benchmark.corpus
            sides = own.split.content(query), corpus.content(document)
            text, image = (model.processor([side], "query") for side in (sides[::-1] if way == "tr" else sides))
            no, yes = head(model.encode_pair(text, image).pooled)[0].tolist()
            value = yes - no if score == "itm" else yes + float(own.scores[query, place])
            scored.append((value, document))
        scored.sort(key=lambda pair: -pair[0])
        assert again.rows[query, :5].tolist() == [document for _, document in scored]
        assert again.scores[query, :5].tolist() == pytest.approx([value for value, _ in scored], abs=1e-5)
    assert torch.equal(again.rows[:, 5:], own.rows[:, 5:])
    assert (again.scores.diff(dim=1) <= 0).all()


@pytest.mark.parametrize("k", [1, 3, NUM])
def test_an_oracle_finds_what_is_among_the_first_k_and_nothing_else(benchmarks, k):
    for way in ("tr", "ir"):
        found = measure(benchmarks, RerankConfig(k))
        own, again = found[f"{way}/test"], found[f"{way}/test/reranked"]
        within = (own.first_places > 0) & (own.first_places <= k)
        assert (again.per_query["recall@1"] == within.double()).all()
        assert again.first_places[~within].tolist() == own.first_places[~within].tolist()
        assert again.metrics["recall@1"] == pytest.approx(within.double().mean())
    assert 0 < found["tr/test"].metrics["recall@1"] < found["tr/test"].metrics["recall@3"] < 1


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_the_batch_size_and_loader_workers_change_nothing(benchmarks, batch_size):
    expected = measure(benchmarks, RerankConfig(4), heads(WAVY))
    found = measure(benchmarks, RerankConfig(4), heads(WAVY), batch_size=batch_size, num_workers=batch_size == 7)
    for name, result in expected.items():
        assert torch.equal(result.rows, found[name].rows) and torch.equal(result.scores, found[name].scores)


def test_only_k_pairs_a_query_are_read_and_a_picture_is_decoded_once_for_neighbours(benchmarks):
    model = Pairs()
    measure(benchmarks, RerankConfig(4), model=model, batch_size=8)
    assert model.pairs_read == 2 * NUM * 4
    # Encoding decodes each picture once for either benchmark; 96 pairs of re-ranking decode few more than that again.
    assert sum(model.processor.decoded) <= 2 * NUM + NUM + 2 * NUM


def test_equal_scores_keep_the_order_of_the_first_step(benchmarks):
    found = measure(benchmarks, RerankConfig(6), heads(((0.0,) * 3, (0.0,) * 3)))
    assert torch.equal(found["tr/test"].rows, found["tr/test/reranked"].rows)


def test_places_beyond_k_follow_below_those_before_by_hand():
    scores, rows = torch.tensor([[0.9, 0.5, 0.4, 0.1]]), torch.tensor([[3, 1, 2, 0]])
    best, order = reorder(scores, rows, torch.tensor([[-7.0, 2.0]]))
    assert order.tolist() == [[1, 3, 2, 0]]
    assert best[0].tolist() == pytest.approx([2.0, -7.0, -7.1, -7.4])


def test_modes_and_metrics_of_the_first_step_stay_as_without(benchmarks):
    model, objectives = Pairs().train(), heads().train()
    alone = Evaluator(benchmarks)(model)
    found = Evaluator(benchmarks).measure(model, objectives=objectives, rerank=RerankConfig(3)).metrics
    assert {name: found[name] for name in alone} == alone
    assert {name for name in found if name not in alone} == {name.replace("test/", "test/reranked/") for name in alone}
    assert model.training and model.dropout.training and objectives["itm"].training


def test_tables_files_and_report_show_a_row_of_its_own(benchmarks, tmp_path):
    metrics = Evaluator(benchmarks, out=tmp_path).measure(Pairs(), objectives=heads(), rerank=RerankConfig(NUM)).metrics
    assert metrics["tr/test/reranked/recall@1"] == 1.0
    (tr, _) = tables(metrics)
    assert tr.splits["test"].controls["reranked"].values == {"recall@1": 1.0, "recall@3": 1.0, "mrr": 1.0}
    console = Console(file=io.StringIO(), width=100)
    terminal_table(metrics, console=console)
    (row, _) = [line for line in console.file.getvalue().splitlines() if "re-ranked" in line]
    assert row.split()[1:] == ["100.0"] * 3
    run = read_run(tmp_path / "tr" / "test.reranked.run")
    assert [documents[0][0] for documents in run.values()] == [f"t{number}" for number in range(NUM)]
    assert "re-ranked" in write_report(tmp_path).read_text("utf-8")
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics


def test_a_suite_gives_the_mean_of_its_recalls_before_and_after():
    tasks = {f"{way}{k}": Task(f"x/{way}", f"recall@{k}", way) for way in ("tr", "ir") for k in (1, 5)}
    suite = Suite("x", tasks, mean=True)
    metrics = {f"{way}/test/recall@{k}": value for way, k, value in (("tr", 1, 0.1), ("tr", 5, 0.3), ("ir", 1, 0.2))}
    assert suite.means(metrics) == {}  # one is missing
    metrics |= {"ir/test/recall@5": 0.4, "ir/test/reranked/recall@5": 0.9}
    assert suite.means(metrics) == {"x/mean": pytest.approx(0.25)}
    assert suite.percent(metrics, "reranked") == {"ir5": pytest.approx(90.0)}


def test_a_model_that_cannot_read_pairs_is_refused(benchmarks):
    with pytest.raises(ConfigError, match=r"which WordRetriever cannot \(encode_pair\); leave --rerank"):
        measure(benchmarks, RerankConfig(2), model=WordRetriever())


def test_a_stage_without_a_matching_head_is_refused(benchmarks):
    objectives = heads()
    del objectives["itm"]
    with pytest.raises(ConfigError, match=r"needs the head of an itm objective, and this model was trained with itc;"):
        measure(benchmarks, RerankConfig(2), objectives)


def test_more_documents_than_are_retrieved_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"rerank.k is 5, but tr retrieves 4 documents a query; .*tr.yaml"):
        measure(write_benchmarks(tmp_path, depth=4), RerankConfig(5))


def test_queries_of_text_and_picture_are_refused_before_anything_is_encoded(tmp_path):
    build_toy_source(tmp_path, num=8)
    with pytest.raises(
        ConfigError, match=r"shapes/heldout cannot be re-ranked: its queries are text and pictures, its"
    ):
        measure([str(tmp_path / "benchmark.yaml")], RerankConfig(2))


@pytest.mark.parametrize("settings, message", [({"k": 0}, "k must be >= 1, got 0"), ({"score": "prob"}, "score must")])
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        RerankConfig(**settings)


def test_vlmo_reads_texts_of_unlike_lengths_with_their_pictures(benchmarks):
    torch.manual_seed(0)
    model = VLMo(VLMo.SIZES["tiny"])
    objectives = torch.nn.ModuleDict({"itm": type(heads()["itm"])(heads()["itm"].config, model.width)})
    found = measure(benchmarks, RerankConfig(3), objectives, model, batch_size=4)
    again = found["ir/test/reranked"]
    text = model.processor([again.split.content(2)], "query")
    with torch.no_grad():
        for place in range(3):
            image = model.processor([again.split.benchmark.corpus.content(int(again.rows[2, place]))], "document")
            no, yes = objectives["itm"].head(model.eval().encode_pair(text, image).pooled)[0]
            assert float(again.scores[2, place]) == pytest.approx(float(yes - no), abs=1e-5)
