import pytest
import torch

from mmret.evaluation import Evaluator
from mmret.recipe.rerank import RerankConfig
from tests.processes import run_processes
from tests.unit.evaluation.pairs import NUM, Pairs, heads, write_benchmarks

pytestmark = pytest.mark.dist

WAVY = ((0.0, 0.3, 0.0), (0.0, 1.0, 0.2))


def _evaluate(rank, targets, batch_size):
    model = Pairs()
    evaluation = Evaluator(targets, batch_size=batch_size).measure(
        model, objectives=heads(WAVY), rerank=RerankConfig(4, "itm_plus_cosine")
    )
    return evaluation.metrics, [(result.rows, result.scores) for result in evaluation.results], model.pairs_read


@pytest.mark.parametrize("batch_size", [5, 64])  # with the second the second rank has no pair to read
def test_every_rank_gets_what_one_process_gets_and_reads_only_its_share(tmp_path, batch_size):
    targets = write_benchmarks(tmp_path)
    metrics, rankings, pairs = _evaluate(0, targets, batch_size)
    ranks = run_processes(_evaluate, 2, targets, batch_size)
    for found, theirs, _ in ranks:
        assert found == pytest.approx(metrics, abs=1e-12)
        for mine, other in zip(rankings, theirs):
            assert torch.equal(mine[0], other[0])
            torch.testing.assert_close(mine[1], other[1], rtol=1e-6, atol=1e-6)
    assert sum(rank[2] for rank in ranks) == pairs == 2 * NUM * 4
    assert batch_size == 64 or min(rank[2] for rank in ranks) > NUM
