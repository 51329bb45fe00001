"""`optimizer.ema_decay` on two ranks: the average by hand, the same on both, and after a stop the same again."""

from dataclasses import replace

import lightning as L
import pytest
import torch

from mmret.recipe.schema import GradCacheConfig
from mmret.training.averaging import MovingAverage
from mmret.training.checkpoints import CheckpointFile, Checkpoints
from mmret.training.contrastive import ContrastiveModule
from mmret.training.module import RetrievalModule
from tests.processes import run_processes
from tests.unit.training.toy_towers import TwoTowers, batch_of, fit, stage_of

pytestmark = pytest.mark.dist
STEPS, STOP, DECAY = 5, 3, 0.75
CACHES = (None, GradCacheConfig(chunk_size=1))


class Weights(L.Callback):
    """After each step what trains, and what an evaluation would see."""

    def __init__(self, average):
        self.average, self.plain, self.inside = average, [], []

    def on_train_batch_end(self, trainer, module, *_):
        self.plain.append(_copy(module))
        with self.average.swapped():
            self.inside.append(_copy(module))


def _copy(module):
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def averaged(rank, world, folder, cache, resume=None):
    """Weights after each step, averages after each step, and what the stage ends with."""
    stage = replace(stage_of(False, cache, steps=STEPS))
    model = TwoTowers(False)
    module = RetrievalModule(model, stage) if cache is None else ContrastiveModule(model, stage)
    average, files = MovingAverage(DECAY), CheckpointFile()
    weights = Weights(average)
    callbacks = [average, weights, Checkpoints(folder, STOP, files, lambda: None)]
    batches = [batch_of(rank, world, seed=seed) for seed in range(STEPS)]
    fit(
        module,
        batches if resume is None else batches[STOP:],
        rank,
        world,
        resume=resume,
        callbacks=callbacks,
        plugins=[files],
        max_steps=STEPS,
    )
    return weights.plain, weights.inside, _copy(module)


def both(rank, folder):
    """Of each cache: straight through, and from the checkpoint."""
    found = []
    for number, cache in enumerate(CACHES):
        place = folder / str(number)
        straight = averaged(rank, 2, place, cache)
        found.append((straight, averaged(rank, 2, place, cache, resume=place / f"{STOP:08d}.ckpt")))
    return found


def test_two_ranks_end_with_the_average_by_hand_and_so_does_a_stopped_run(tmp_path):
    ranks = run_processes(both, 2, tmp_path)
    for number, cache in enumerate(CACHES):
        _, _, alone = averaged(0, 1, tmp_path / "alone" / str(number), cache)
        for rank, found in enumerate(ranks):
            (plain, inside, end), (_, resumed_inside, resumed) = found[number]
            where = f"rank {rank}, grad_cache {cache}"
            expected = plain[0]
            for step, weights in enumerate(plain):
                if step:
                    expected = {name: DECAY * e + (1 - DECAY) * weights[name] for name, e in expected.items()}
                for name, value in expected.items():
                    torch.testing.assert_close(inside[step][name], value, rtol=1e-5, atol=1e-7)
            assert all(torch.equal(end[name], inside[-1][name]) for name in end), where
            assert all(torch.equal(end[name], resumed[name]) for name in end), where
            assert all(torch.equal(inside[STOP][name], resumed_inside[0][name]) for name in end), where
            assert all(torch.equal(end[name], ranks[0][number][0][2][name]) for name in end), where
            assert any(not torch.equal(end[name], plain[-1][name]) for name in end), where
            for name, value in alone.items():
                torch.testing.assert_close(end[name], value, rtol=1e-4, atol=1e-6)
