"""Broken samples of all ranks, told without a collective in each step."""

import pytest
import torch
import torch.distributed as dist

from mmret.training.skipped import Skipped
from tests.processes import run_processes


def counted(rank):
    """What a rank knows before the ranks meet, when they do, and when more has come; and how often they spoke."""
    bad, calls, plain = [rank + 1], [], dist.all_reduce
    skipped = Skipped(lambda: bad[0])

    def noted(*arguments, **settings):
        calls.append(arguments)
        return plain(*arguments, **settings)

    dist.all_reduce = noted
    known = [skipped(), skipped.meet(torch.device("cpu")), skipped()]
    bad[0] += 10
    known += [skipped(), skipped.meet(torch.device("cpu"))]
    dist.all_reduce = plain
    return known, len(calls)


@pytest.mark.dist
def test_ranks_add_up_what_they_skipped_where_they_meet():
    assert run_processes(counted, 2) == [([1, 3, 3, 13, 23], 2), ([2, 3, 3, 13, 23], 2)]


def test_one_process_counts_its_own():
    skipped = Skipped(lambda: 5)
    assert (skipped(), skipped.meet(torch.device("cpu"))) == (5, 5)
