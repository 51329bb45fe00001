"""Masked image modelling on several ranks, which hide unequally many patches, is that of one rank with all rows."""

import pytest
import torch
import torch.distributed as dist

from mmret.objectives import MIM, MIMConfig, Step
from mmret.types import Batch, Inputs
from tests.processes import run_processes
from tests.unit.models.visual_tokenizer.toys import dalle
from tests.unit.models.vlmo.toys import toy_model

pytestmark = pytest.mark.dist

ROWS = 4
HIDDEN = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]).bool()
"""6 patches on the first of two ranks, 1 on the second; of four ranks the last hides none."""


def gradient(rank, world):
    model = toy_model(vl_layers=0, contrastive="none")
    torch.manual_seed(2)
    objective = MIM(MIMConfig(tokenizer="unused"), model.width, 16, 2)
    objective._opened.append(dalle())
    mine = slice(rank * ROWS // world, (rank + 1) * ROWS // world)
    pixels = torch.randn(ROWS, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    batch = Batch(Inputs({"pixel_values": pixels[mine]}), None, 0, masked_image=HIDDEN[mine])
    loss = objective(Step(model, batch)).loss
    loss.backward()
    parameters = [*model.named_parameters(), *objective.named_parameters()]
    gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in parameters}
    if world > 1:
        for one in (*gradients.values(), loss.detach()):
            dist.all_reduce(one)
    return {name: one / world for name, one in gradients.items()}, float(loss.detach() / world)


@pytest.mark.parametrize("world", [2, 4])
def test_averaged_gradient_of_ranks_equals_one_rank(world):
    alone, loss = gradient(0, 1)
    assert alone["mask_token"].abs().sum() > 0 and alone["backbone.image.patch.weight"].abs().sum() > 0
    for gradients, mean_loss in run_processes(gradient, world, world):
        assert mean_loss == pytest.approx(loss, rel=1e-6)
        for name, reference in alone.items():
            torch.testing.assert_close(gradients[name], reference, rtol=1e-4, atol=1e-7)
