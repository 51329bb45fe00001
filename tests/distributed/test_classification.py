import pytest
from torch import nn

from mmret.evaluation import Evaluator
from tests.processes import run_processes
from tests.unit.evaluation.test_classification import RIGHT, ColourHead, benchmark
from tests.unit.models.vlmo.toys import toy_model

pytestmark = pytest.mark.dist


def _evaluate(rank, file):
    heads = nn.ModuleDict({"colour": ColourHead()})
    # Of six queries, batches of four and two for one rank each; of batches of eight the second rank has none.
    found = [Evaluator([file], batch_size=size).measure(toy_model(), objectives=heads) for size in (4, 8)]
    return [(evaluation.metrics, evaluation.results[0].predictions.tolist()) for evaluation in found]


def test_every_rank_knows_every_prediction(tmp_path):
    file = benchmark(tmp_path, RIGHT)
    assert run_processes(_evaluate, 2, file) == [_evaluate(0, file)] * 2
