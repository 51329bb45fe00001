from pathlib import Path

import pytest
import torch

from mmret.evaluation import Evaluator
from tests.processes import run_processes
from tests.unit.evaluation.test_own_candidates import write_lists
from tests.unit.evaluation.toy import WordRetriever

pytestmark = pytest.mark.dist


def _evaluate(rank, target):
    found = []
    for batch_size in (4, 64):  # with the second the other rank has no document
        evaluation = Evaluator([target], batch_size=batch_size).measure(WordRetriever(), controls=True)
        found.append((evaluation.metrics, evaluation.results[0].rows, evaluation.results[0].scores))
    return found


def test_every_rank_gets_the_lists_that_one_process_gets(tmp_path: Path):
    target = str(write_lists(tmp_path))
    alone = _evaluate(0, target)
    for rank in run_processes(_evaluate, 2, target):
        for (metrics, rows, scores), (wanted, wanted_rows, wanted_scores) in zip(rank, alone):
            assert metrics == pytest.approx(wanted, abs=1e-12)
            assert torch.equal(rows, wanted_rows) and torch.equal(scores, wanted_scores)
