"""GradCache's claim: memory for activations is that of a chunk, whatever the batch."""

import pytest
import torch
from torch import nn

from mmret.models import Retriever
from mmret.recipe.schema import GradCacheConfig
from mmret.training.contrastive import ContrastiveModule
from mmret.training.module import RetrievalModule
from mmret.types import Batch, Embeddings, Inputs
from tests.live_bytes import peak_bytes
from tests.unit.training.toy_towers import TwoTowers, stage_of

TOKENS, WIDTH, DIM, CHUNK = 48, 64, 4, 4
ROW = TOKENS * WIDTH * 4
"""Bytes of one layer's output of one row."""


class Deep(TwoTowers):
    """Eight layers over tokens, and a short vector: activations are thousands of times an embedding."""

    def __init__(self):
        Retriever.__init__(self)
        torch.manual_seed(0)
        layers = [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(8)]
        self.layers, self.out = nn.Sequential(*layers), nn.Linear(WIDTH, DIM)
        self.late_interaction = False

    def encode_query(self, inputs):
        return Embeddings(nn.functional.normalize(self.out(self.layers(inputs.dense["x"]).mean(1)), dim=-1))

    encode_document = encode_query


def peak_of(rows, **cache):
    model = Deep()
    stage = stage_of(False, GradCacheConfig(**cache) if cache else None)
    module = (ContrastiveModule if cache else RetrievalModule)(model, stage)
    module.log = module.log_dict = lambda *args, **kwargs: None
    module.manual_backward = lambda loss: loss.backward()
    sides = [Inputs({"x": torch.randn(rows, TOKENS, WIDTH)}) for _ in range(2)]
    batch = Batch(*sides, 1)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)

    def step():
        module.cached_backward(batch) if cache else module.training_step(batch, 0).backward()

    return peak_bytes(step)


def test_what_is_counted_is_what_lives():
    def run():
        first = torch.ones(1000)  # 4,000 bytes
        second = first + 1
        del first
        third = second * 2
        third.view(10, 100).add_(1)

    assert peak_bytes(run) == 8000


@pytest.mark.parametrize("times", [4, 16])
def test_peak_memory_does_not_grow_with_the_batch(times):
    one, many = peak_of(CHUNK, chunk_size=CHUNK), peak_of(times * CHUNK, chunk_size=CHUNK)
    assert one > CHUNK * ROW * 8  # a chunk's graph is in it
    # Beside the chunk's: embeddings of both sides and their gradients, and the scores.
    rows = times * CHUNK
    assert many <= one + 40 * rows * DIM * 4 + 24 * rows * rows * 4
    assert many <= 1.15 * one


def test_plain_training_grows_with_the_batch():
    assert peak_of(16 * CHUNK) > 12 * peak_of(CHUNK)


def test_graphs_that_are_kept_take_no_more_than_they_may():
    chunk = peak_of(CHUNK, chunk_size=CHUNK)
    limit = 5 * chunk
    kept = peak_of(16 * CHUNK, chunk_size=CHUNK, keep_graph="auto", memory_gb=limit / 2**30)
    assert 3 * chunk < kept < limit + 2 * chunk
