import random

import pytest
import torch

from mmret.data import Sample, write_shards, write_table
from mmret.errors import ConfigError, SampleError
from mmret.evaluation import Benchmark, by_chance
from mmret.evaluation.evaluator import Evaluator
from mmret.evaluation.measure import ModelEvaluator
from mmret.evaluation.rerank import check_rerank
from mmret.evaluation.trec import read_run
from mmret.index import rank_lists
from mmret.recipe.rerank import RerankConfig
from mmret.types import Embeddings
from tests.unit.evaluation.toy import WordRetriever

SPEC = """
name: small/lists
corpus: documents.arrow
candidates: own
splits:
  test: {shards: test.manifest.json}
metrics: [recall@1, ndcg@5, mrr]
controls: [chance]
control_splits: [test]
"""
WORDS = ["red", "green", "blue", "dog", "cat", "house", "tree", "car", "sea", "sky"]


def write_lists(folder, queries=12, documents=30, seed=0, spec=SPEC):
    """Documents of three words; a query asks two words of the first of its 2 to 9 candidates."""
    rng = random.Random(seed)
    texts = {f"d{number:02d}": " ".join(rng.sample(WORDS, 3)) for number in range(documents)}
    write_table([{"id": id, "text": text} for id, text in texts.items()], folder / "documents.arrow")
    samples = []
    for number in range(queries):
        listed = rng.sample(sorted(texts), rng.randint(2, 9))
        asked = " ".join(rng.sample(texts[listed[0]].split(), 2))
        row = {"query": {"text": asked}, "positives": listed[:1], "candidates": [*listed, listed[-1]]}
        samples.append(Sample(f"{number:03d}", row))
    write_shards(samples, folder, "test")
    (folder / "lists.yaml").write_text(spec)
    return folder / "lists.yaml"


def slow_ranking(model, split):
    """For each query {row: score} of its list, one pair after the other."""
    model.eval()
    corpus, found = split.benchmark.corpus, []
    for row in range(len(split)):
        asked = model.encode_query(model.processor([split.content(row)], "query"))
        scored = {}
        for id in split.source.parse(row).meta["candidates"]:
            number = corpus.table.find(id)
            ready = model.processor([corpus.content(number)], "document")
            scored[number] = float(model.score(asked, model.encode_document(ready)))
        found.append(scored)
    return found


class MeanRetriever(WordRetriever):
    """One vector: the mean of its words."""

    def _encode(self, inputs):
        found = super()._encode(inputs)
        return Embeddings(torch.nn.functional.normalize(found.vectors.sum(1), dim=-1))

    def score(self, queries, documents):
        return queries.vectors @ documents.vectors.T


@pytest.mark.parametrize("kind", [WordRetriever, MeanRetriever])
def test_each_query_ranks_its_own_list_like_a_slow_reference(tmp_path, kind):
    benchmark = Benchmark.load(write_lists(tmp_path))
    split, model = benchmark.split("test"), kind()
    result = ModelEvaluator(model)(benchmark, "test")
    for row, wanted in enumerate(slow_ranking(model, split)):
        found = result.rows[row, : len(wanted)].tolist()
        assert result.rows[row, len(wanted) :].tolist() == [-1] * (result.rows.shape[1] - len(wanted))
        # Scores that differ by rounding only may change places: compare those of the found order.
        assert [wanted[number] for number in found] == pytest.approx(sorted(wanted.values(), reverse=True), abs=1e-4)
        assert result.scores[row, : len(wanted)].tolist() == pytest.approx([wanted[n] for n in found], abs=1e-4)
        assert result.per_query["recall@1"][row] == (found[0] == split.queries[row].relevant[0])
    assert 0 < result.metrics["recall@1"] == pytest.approx(float(result.per_query["recall@1"].mean()))


def test_equal_scores_stand_in_the_order_of_the_table_and_short_lists_end_in_empty_places():
    queries, documents = Embeddings(torch.ones(2, 1)), Embeddings(torch.tensor([[1.0], [2.0], [1.0], [1.0]]))
    rows = torch.tensor([3, 0, 2, 1])  # the table's order, not the blocks', decides
    lists = [torch.tensor([1, 2, 3]), torch.tensor([0, 1])]
    scores, found = rank_lists(MeanRetriever(), queries, documents.split(3), rows, lists, 5)
    assert found.tolist() == [[1, 2, 3], [0, 1, -1]]
    assert scores.tolist() == [[1, 1, 1], [2, 1, -torch.inf]]
    assert rank_lists(MeanRetriever(), queries, documents.split(3), rows, lists, 1)[1].tolist() == [[1], [0]]
    with pytest.raises(ValueError, match="score gave NaN"):
        rank_lists(MeanRetriever(), Embeddings(torch.full((2, 1), torch.nan)), [documents], rows, lists, 1)
    with pytest.raises(ValueError, match="wants k >= 1, got 0"):
        rank_lists(MeanRetriever(), queries, [documents], rows, lists, 0)


def test_chance_is_that_of_each_querys_own_list(tmp_path):
    benchmark = Benchmark.load(write_lists(tmp_path))
    split = benchmark.split("test")
    lengths = [len(query.candidates) for query in split.queries]
    assert len(set(lengths)) > 2
    result = by_chance(benchmark, "test")
    assert result.per_query["recall@1"].tolist() == pytest.approx([1 / length for length in lengths])
    harmonic = [sum(1 / place for place in range(1, length + 1)) / length for length in lengths]
    assert result.per_query["mrr"].tolist() == pytest.approx(harmonic)


def test_the_evaluator_writes_rankings_without_empty_places(tmp_path):
    metrics = Evaluator([str(write_lists(tmp_path))], out=tmp_path / "out")(WordRetriever(), controls=True)
    assert metrics["lists/test/recall@1"] > metrics["lists/test/chance/recall@1"]
    run = read_run(tmp_path / "out" / "lists" / "test.run")
    queries = Benchmark.load(tmp_path / "lists.yaml").split("test").queries
    assert [len(ranking) for ranking in run.values()] == [len(query.candidates) for query in queries]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidates": None}, r"test-\d+.tar:x: no list of candidates, but .*lists.yaml says"),
        ({"candidates": ["d00", "nine"]}, r"x: candidates names document 'nine', which .*documents.arrow"),
        ({"candidates": ["d01"]}, r"x: document 'd00' answers it, but is none of its 1 candidates"),
    ],
)
def test_a_broken_list_is_named_by_shard_and_key(tmp_path, change, message):
    file = write_lists(tmp_path)
    write_shards([Sample("x", {"query": {"text": "red"}, "positives": ["d00"], **change})], tmp_path, "test")
    with pytest.raises(SampleError, match=message):
        _ = Benchmark.load(file).split("test").queries


def test_what_cannot_go_with_own_candidates_is_refused(tmp_path):
    file = write_lists(tmp_path, spec=SPEC.replace("own", "mine"))
    with pytest.raises(ConfigError, match="candidates must be corpus or own, got 'mine'"):
        Benchmark.load(file)
    file.write_text(SPEC.replace("recall@1", "pseudo_recall@1"))
    with pytest.raises(ConfigError, match="pseudo_recall@1 looks for answers in a whole corpus"):
        Benchmark.load(file)
    file.write_text(SPEC)
    with pytest.raises(ConfigError, match="lists/test cannot be re-ranked: its queries bring candidates of their own"):
        check_rerank(Benchmark.load(file), "test", RerankConfig(5))
