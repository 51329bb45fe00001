"""The gradient of W ranks, averaged, is the gradient of one rank with the whole batch."""

import pytest
import torch
import torch.distributed as dist
from torch import nn

from mmret.objectives import ITC, HardNegative, HardNegativeConfig, ITCConfig, Step
from mmret.ops import maxsim
from mmret.types import Batch, Embeddings, Inputs
from tests.processes import run_processes

pytestmark = pytest.mark.dist

QUERIES, NUM_DOCUMENTS, DIM = 4, 2, 6


class TwoTowers(nn.Module):
    """A towered toy whose documents have different lengths on different ranks."""

    def __init__(self, late_interaction):
        super().__init__()
        torch.manual_seed(3)
        self.query, self.document = nn.Linear(DIM, DIM), nn.Linear(DIM, DIM)
        self.late_interaction = late_interaction

    def encode_query(self, inputs):
        return self._embed(self.query, inputs)

    def encode_document(self, inputs):
        return self._embed(self.document, inputs)

    def _embed(self, tower, inputs):
        vectors = nn.functional.normalize(tower(inputs.dense["x"]), dim=-1)
        if not self.late_interaction:
            return Embeddings(vectors[:, 0])
        return Embeddings(vectors * inputs.dense["mask"].unsqueeze(2), inputs.dense["mask"])

    def score(self, queries, documents):
        if self.late_interaction:
            return maxsim(queries.vectors, documents.vectors, documents.mask)
        return queries.vectors @ documents.vectors.T


def batch_of(rank, world):
    """This rank's slice of one fixed global batch; tokens beyond the rank's longest row are cut off."""
    generator = torch.Generator().manual_seed(5)
    rows = {"query": QUERIES, "document": QUERIES * NUM_DOCUMENTS}
    sides = {}
    for side, count in rows.items():
        x = torch.randn(count, 5, DIM, generator=generator)
        lengths = torch.arange(count) % 4 + 2
        part = slice(rank * count // world, (rank + 1) * count // world)
        mask = torch.arange(5) < lengths[part].unsqueeze(1)
        longest = int(lengths[part].max())
        sides[side] = Inputs({"x": x[part][:, :longest], "mask": mask[:, :longest]})
    ids = torch.tensor([0, 1, 2, 3, 4, 0, 6, 7])  # document 0 stands in the batch twice
    part = slice(rank * len(ids) // world, (rank + 1) * len(ids) // world)
    positives = ids[::2].unsqueeze(1)
    mine = slice(rank * QUERIES // world, (rank + 1) * QUERIES // world)
    return Batch(sides["query"], sides["document"], NUM_DOCUMENTS, document_ids=ids[part], positive_ids=positives[mine])


def gradient(rank, world, kind):
    model = TwoTowers(late_interaction=kind == "hard_negative")
    objective = (
        HardNegative(HardNegativeConfig())
        if kind == "hard_negative"
        else ITC(ITCConfig(temperature=0.5, learn_temperature=True))
    )
    loss = objective(Step(model, batch_of(rank, world))).loss
    loss.backward()
    gradients = [p.grad for module in (model, objective) for p in module.parameters()]
    if world > 1:
        for one in (*gradients, loss.detach()):
            dist.all_reduce(one)
    return [one / world for one in gradients], float(loss.detach() / world)


@pytest.mark.parametrize("kind", ["hard_negative", "itc"])
@pytest.mark.parametrize("world", [2, 4])
def test_averaged_gradient_of_ranks_equals_one_rank(kind, world):
    alone, loss = gradient(0, 1, kind)
    for gradients, mean_loss in run_processes(gradient, world, world, kind):
        assert mean_loss == pytest.approx(loss, rel=1e-6)
        for ours, reference in zip(gradients, alone):
            torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-7)
