"""Rows fetched from other ranks, and what several ranks make of ITM, MLM and ITC."""

import pytest
import torch
import torch.distributed as dist

from mmret.objectives import ITC, ITM, MLM, ITCConfig, ITMConfig, MLMConfig, Step
from mmret.objectives.itm import Drawn
from mmret.ops import fetch_rows
from mmret.types import Batch, Inputs
from tests.processes import run_processes
from tests.unit.models.vlmo.toys import pictures, texts, toy_model

pytestmark = pytest.mark.dist

ROWS = 4
DOCUMENTS, QUERIES = torch.tensor([2, 3, 1, 0]), torch.tensor([3, 0, 0, 1])
"""Each row's negatives, by their number in the whole batch."""


def fetch(rank, world):
    """Rank r has rows r * 3 .. r * 3 + 2, two to four places wide; each asks for others' and own, some twice."""
    numbers = torch.arange(3) + 3 * rank
    text = numbers[:, None].repeat(1, 2 + rank)
    inputs = Inputs({"text": text, "image": numbers.float().view(3, 1, 1, 1).repeat(1, 2, 2, 2)})
    wanted = torch.tensor([[5, 0, 0, 8], [1, 1, 7, 3], [4, 4, 4, 4]])[rank]
    return wanted, fetch_rows(inputs, wanted)


def test_only_asked_rows_come_and_in_the_order_asked():
    for wanted, found in run_processes(fetch, 3, 3):
        assert found.dense["image"][:, 0, 0, 0].long().tolist() == wanted.tolist()
        assert found.dense["text"].shape == (4, 4)
        for row, number in zip(found.dense["text"], wanted):
            width = 2 + int(number) // 3
            assert row.tolist() == [int(number)] * width + [0] * (4 - width)


def whole():
    """One fixed batch of four pairs with texts of different lengths, some tokens masked."""
    text, image = texts((6, 3, 5, 4), seed=2), pictures(ROWS, seed=2)
    labels = torch.full_like(text.dense["input_ids"], -100)
    for row, place in ((0, 1), (0, 2), (0, 4), (3, 2)):  # ranks have different numbers of them
        labels[row, place] = 7 + place
    return text, image, Inputs({**text.dense, "labels": labels})


def trimmed(inputs, part):
    """Some rows, padded to their own longest only."""
    rows = inputs.select(part)
    longest = int(rows.dense["attention_mask"].sum(1).max())
    return Inputs({name: value[:, :longest] for name, value in rows.dense.items()})


def gradients(rank, world):
    """Gradient of itc + itm + mlm over this rank's rows, averaged over ranks."""
    model = toy_model(seed=4)
    torch.manual_seed(5)
    itc, itm, mlm = (
        ITC(ITCConfig(temperature=0.3)),
        ITM.for_model(ITMConfig(), model),
        MLM.for_model(MLMConfig(), model),
    )
    text, image, masked = whole()
    part = slice(rank * ROWS // world, (rank + 1) * ROWS // world)
    step = Step(model, Batch(trimmed(text, part), image.select(part), 1, masked_query=trimmed(masked, part)))
    drawn = Drawn(DOCUMENTS[part], QUERIES[part])
    loss = itc(step).loss + itm.loss(step, drawn).loss + mlm(step).loss
    loss.backward()
    found = {
        f"{name}.{key}": p.grad
        for name, module in (("model", model), ("itm", itm), ("mlm", mlm))
        for key, p in module.named_parameters()
        if p.grad is not None
    }
    if world > 1:
        for gradient in (loss.detach(), *found.values()):
            dist.all_reduce(gradient)
    return float(loss.detach()) / world, {name: gradient / world for name, gradient in found.items()}


@pytest.mark.parametrize("world", [2])
def test_averaged_gradient_of_ranks_equals_one_rank(world):
    loss, alone = gradients(0, 1)
    for mean_loss, found in run_processes(gradients, world, world):
        assert mean_loss == pytest.approx(loss, rel=1e-5)
        assert found.keys() == alone.keys()
        for name, gradient in alone.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=2e-6, msg=name)


def drawn_columns(rank, world, negatives):
    """Numbers of 30 draws, by random states that differ between ranks."""
    model = toy_model(seed=4)
    objective = ITM(ITMConfig(negatives=negatives, temperature=10.0), model.width)
    text, image, _ = whole()
    part = slice(2 * rank, 2 * rank + 2)
    step = Step(model, Batch(text.select(part), image.select(part), 1))
    columns = []
    for seed in range(30):
        torch.manual_seed(seed + 100 * rank)
        columns.append(objective.draw(step).documents.tolist())
    return columns


def test_global_negatives_come_from_all_ranks_and_local_ones_from_the_own():
    for rank, columns in enumerate(run_processes(drawn_columns, 2, 2, "global")):
        for row in range(2):
            assert {draw[row] for draw in columns} == set(range(4)) - {2 * rank + row}
    for rank, columns in enumerate(run_processes(drawn_columns, 2, 2, "local")):
        for row in range(2):
            assert {draw[row] for draw in columns} == {2 * rank + 1 - row}


def released(rank, world):
    """Gradient of ITC gathered without gradient, averaged over ranks: encoder and temperature."""
    model = toy_model(seed=4)
    settings = {"temperature": 0.3, "learn_temperature": True, "mask_false_negatives": False, "gradient": "local"}
    itc = ITC(ITCConfig(**settings))
    text, image, _ = whole()
    part = slice(rank * ROWS // world, (rank + 1) * ROWS // world)
    itc(Step(model, Batch(text.select(part), image.select(part), 1))).loss.backward()
    found = [model.projections["text"].weight.grad, itc.logit_scale.grad]
    if world > 1:
        for gradient in found:
            dist.all_reduce(gradient)
    return [gradient / world for gradient in found]


def test_released_gradient_is_a_share_for_encoders_and_whole_for_the_temperature():
    encoder, temperature = released(0, 1)
    for theirs in run_processes(released, 2, 2):
        torch.testing.assert_close(theirs[0] * 2, encoder, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(theirs[1], temperature, rtol=1e-5, atol=1e-7)
