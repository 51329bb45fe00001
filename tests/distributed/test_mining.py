import pytest

from mmret.data import DataSpec
from mmret.evaluation.encode import Settings
from mmret.evaluation.mining import Mineable, MiningRules, mine
from tests.builders import build_toy_source
from tests.processes import run_processes
from tests.unit.evaluation.test_mining import twins
from tests.unit.evaluation.toy import WordRetriever

pytestmark = pytest.mark.dist


def _mine(rank, specs, batch_size):
    found = []
    for spec in specs:
        model = WordRetriever()
        mined = mine(model, Mineable(DataSpec.load(spec).open()), MiningRules(k=5, margin=0.25), Settings(batch_size))
        found.append((mined.rows, mined.scores, mined.positives, mined.dropped, model.num_documents))
    return found


def test_ranks_share_the_work_and_find_what_one_process_finds(tmp_path):
    specs = [str(build_toy_source(tmp_path / "toy", num=20)), str(twins(tmp_path))]
    alone = _mine(0, specs, 3)
    ranks = run_processes(_mine, 2, specs, 3)
    for number, one in enumerate(alone):
        for rank in ranks:
            assert rank[number][0] == one[0] and rank[number][3] == one[3]
            assert rank[number][2] == pytest.approx(one[2], abs=1e-6)
        assert sum(rank[number][4] for rank in ranks) == one[4]
