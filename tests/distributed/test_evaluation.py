import pytest
import torch

from mmret.evaluation import Evaluator
from tests.builders import build_toy_source
from tests.processes import run_processes
from tests.unit.evaluation.toy import WordRetriever

pytestmark = pytest.mark.dist

BATCH_SIZES = (5, 64)
"""With the second all 64 queries and 32 documents are one batch: the second rank has nothing of its own."""


def _evaluate(rank, target, out):
    found = []
    for batch_size in BATCH_SIZES:
        model = WordRetriever()
        evaluation = Evaluator([target], batch_size=batch_size, out=out).measure(
            model, controls=True, untrained=lambda: WordRetriever(seed=1)
        )
        rows = [result.rows for result in evaluation.results if result.rows is not None]
        found.append((evaluation.metrics, rows, model.num_documents))
    return found


def test_every_rank_gets_what_one_process_gets(tmp_path):
    build_toy_source(tmp_path, num=8)
    target = str(tmp_path / "benchmark.yaml")
    alone = _evaluate(0, target, None)
    ranks = run_processes(_evaluate, 2, target, str(tmp_path / "out"))
    for number in range(len(BATCH_SIZES)):
        metrics, rows, documents = alone[number]
        for rank in ranks:
            assert rank[number][0] == ranks[0][number][0]
            assert rank[number][0] == pytest.approx(metrics, abs=1e-12)
            assert all(torch.equal(mine, theirs) for mine, theirs in zip(rows, rank[number][1]))
        assert sum(rank[number][2] for rank in ranks) == documents == 32
    assert (tmp_path / "out" / "shapes" / "heldout.run").exists()
