"""Captions of one picture on different ranks: masks, shared targets and gradients are those of one process."""

import pytest
import torch
import torch.distributed as dist

from mmret.objectives import ITC, ITCConfig, Step
from mmret.types import Batch, Embeddings, Inputs
from tests.builders import known_positives
from tests.processes import run_processes

pytestmark = pytest.mark.dist

# Rows 0, 2 and 5 are of one picture, 1 and 3 of another; with two ranks rows 0-2 and 3-5 lie apart.
PICTURE = (7, 8, 7, 8, 9, 7)
LAYOUTS = {
    "captions ask": ([*PICTURE], [[id] for id in PICTURE]),
    # Lists of unlike lengths: the longest of either rank decides the width.
    "pictures ask": (
        [70, 80, 71, 81, 90, 72],
        [{7: [70, 71, 72, 73], 8: [80, 81], 9: [90]}[id] for id in PICTURE],
    ),
}


class Dot:
    def score(self, queries, documents):
        return queries.vectors @ documents.vectors.T


def measured(rank, world, layout, multi_positive):
    """This rank's masks, and loss and query gradient of the whole batch."""
    ids, positives = LAYOUTS[layout]
    generator = torch.Generator().manual_seed(3)
    vectors = torch.randn(2, 6, 4, generator=generator)
    part = slice(rank * 6 // world, (rank + 1) * 6 // world)
    queries, documents = (side[part].clone().requires_grad_() for side in vectors)
    rows = Inputs({"x": torch.zeros(len(queries))})
    known = known_positives(positives[part])
    batch = Batch(rows, rows, 1, document_ids=torch.tensor(ids[part]), positive_ids=known)
    step = Step(Dot(), batch, queries=Embeddings(queries), documents=Embeddings(documents))
    loss = ITC(ITCConfig(temperature=0.5, multi_positive=multi_positive))(step).loss
    loss.backward()
    total = loss.detach().clone()
    if world > 1:
        dist.all_reduce(total)
    gradients = [side.grad / world for side in (queries, documents)]
    return step.false_negatives, step.reverse_false_negatives, float(total) / world, gradients


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("multi_positive", [False, True])
def test_two_ranks_know_what_one_knows(layout, multi_positive):
    forward, backward, loss, gradients = measured(0, 1, layout, multi_positive)
    same = torch.tensor(PICTURE)[:, None] == torch.tensor(PICTURE)[None]
    same.fill_diagonal_(False)
    assert torch.equal(forward, same) and torch.equal(backward, same)
    ranks = run_processes(measured, 2, 2, layout, multi_positive)
    assert torch.equal(torch.cat([rank[0] for rank in ranks]), forward)
    assert torch.equal(torch.cat([rank[1] for rank in ranks]), backward)
    for rank in ranks:
        assert rank[2] == pytest.approx(loss, rel=1e-5)
    for side in range(2):
        joined = torch.cat([rank[3][side] for rank in ranks])
        torch.testing.assert_close(joined, gradients[side], rtol=1e-4, atol=1e-6)
