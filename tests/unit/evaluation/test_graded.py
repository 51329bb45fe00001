import math
from itertools import permutations

import pytest
import torch

from mmret.data import Sample, write_shards, write_table
from mmret.errors import SampleError
from mmret.evaluation import Benchmark, by_chance
from mmret.evaluation.evaluator import Evaluator
from mmret.evaluation.judge import judge
from mmret.evaluation.judged import Judged, Pool
from mmret.evaluation.metrics import build_metric, ndcg
from tests.unit.evaluation.toy import WordRetriever

SPEC = """
name: small/pages
corpus: pages.arrow
splits:
  test: {shards: test.manifest.json}
metrics: [ndcg@2, recall@1]
controls: [chance]
control_splits: [test]
"""


def write_pages(folder, *rows):
    write_table([{"id": id, "text": id} for id in ("red", "blue", "green")], folder / "pages.arrow")
    write_shards([Sample(str(number), row) for number, row in enumerate(rows)], folder, "test")
    (folder / "pages.yaml").write_text(SPEC)
    return folder / "pages.yaml"


def graded(**grades):
    return {"query": {"text": "red"}, "relevance": grades}


def test_ndcg_gains_a_grade_linearly_over_the_best_order_of_all_judged():
    judged = Judged(
        relevant=torch.tensor([[True, False, True]]),
        num_relevant=torch.tensor([3]),
        gains=torch.tensor([[1.0, 0.0, 3.0]], dtype=torch.float64),
        grades=torch.tensor([[3.0, 2.0, 1.0]], dtype=torch.float64),
    )
    best = 3 + 2 / math.log2(3) + 1 / math.log2(4)
    assert ndcg(judged, 3).item() == pytest.approx((1 + 3 / math.log2(4)) / best)
    # The ideal list is cut at k too.
    assert ndcg(judged, 2).item() == pytest.approx(1 / (3 + 2 / math.log2(3)))
    assert ndcg(judged, 5).item() == pytest.approx((1 + 3 / math.log2(4)) / best)


def test_grades_of_one_are_the_plain_ndcg(tmp_path):
    split = Benchmark.load(write_pages(tmp_path, graded(red=1, green=1))).split("test")
    rows = torch.tensor([[1, 0, 2]])
    plain = Judged(torch.tensor([[False, True, True]]), torch.tensor([2]))
    for k in (1, 2, 3, 9):
        torch.testing.assert_close(ndcg(judge(split, rows), k), ndcg(plain, k))


def test_graded_queries_and_plain_ones_stand_in_one_split(tmp_path):
    file = write_pages(tmp_path, graded(red=1, blue=2, green=0), {"query": {"text": "red"}, "positives": ["red"]})
    split = Benchmark.load(file).split("test")
    assert [query.relevant for query in split.queries] == [(0, 1), (0,)]
    assert split.grades.tolist() == [[2, 1], [1, 0]]
    metrics = Evaluator([str(file)], out=tmp_path / "out")(WordRetriever())
    # red comes first for both; of the other two, unlike the query alike, the table's order or a shade decides.
    found = judge(split, torch.tensor([[0, 1, 2], [0, 1, 2]]))
    best = 2 + 1 / math.log2(3)
    assert ndcg(found, 2).tolist() == pytest.approx([(1 + 2 / math.log2(3)) / best, 1])
    assert metrics["pages/test/recall@1"] == 1
    qrels = (tmp_path / "out" / "pages" / "test.qrels").read_text()
    assert qrels == "0 0 red 1\n0 0 blue 2\n1 0 red 1\n"


def test_chance_is_the_mean_over_all_orders(tmp_path):
    file = write_pages(tmp_path, graded(red=1, blue=3))
    split = Benchmark.load(file).split("test")
    values = [ndcg(judge(split, torch.tensor([order])), 2).item() for order in permutations(range(3))]
    assert by_chance(Benchmark.load(file), "test").metrics["ndcg@2"] == pytest.approx(sum(values) / len(values))
    pool = Pool(3, 3, torch.tensor([2]), grades=torch.tensor([[1.0, 1.0]]).double())
    plain = Pool(3, 3, torch.tensor([2]))
    torch.testing.assert_close(build_metric("ndcg@2").by_chance(pool), build_metric("ndcg@2").by_chance(plain))


@pytest.mark.parametrize(
    ("grades", "message"),
    [
        ({"red": "high"}, r"relevance is \{'red': 'high'\}; want \{document id: number, 0 or more\}"),
        ({"red": -1}, ".*want {document id: number, 0 or more}"),
        ({"red": 0}, "relevance grades no document above 0"),
        ({"black": 1}, "relevance names document 'black', which the corpus .*pages.arrow does not have"),
    ],
)
def test_wrong_grades_are_refused_by_shard_and_key(tmp_path, grades, message):
    with pytest.raises(SampleError, match=rf"test-\d+.tar:0: {message}"):
        _ = Benchmark.load(write_pages(tmp_path, graded(**grades))).split("test").queries
