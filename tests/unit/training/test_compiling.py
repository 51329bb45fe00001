"""torch.compile by one key: the same numbers, the same names."""

import shutil

import pytest
import torch
from torch import nn

from mmret.models import MODELS
from mmret.ops.grad_cache import CachedEncoding, fixed_chunks
from mmret.training.compiling import compile_blocks
from mmret.types import Content, Embeddings, EncodedImage, Inputs
from tests.builders import draw_shape

SIZES = {
    "preflmr": {"text": "tiny", "vision": "tiny", "dim": 16},
    "vlm2vec": {"backbone": "tiny"},
    "vlmo": {"size": "tiny", "tokenizer": "tiny", "image_px": 32, "patch_px": 16},
}


def contents(name):
    import random

    rng = random.Random(0)
    picture = lambda colour: (EncodedImage(draw_shape(colour, "circle", 32, rng)),)  # noqa: E731
    if name == "vlmo":
        return [Content(None, picture("red")), Content(None, picture("blue"))]
    return [
        Content("What is it?", picture("red"), "Find the answer."),
        Content("Which colour has the round shape in it?", picture("blue"), "Find the answer."),
    ]


def gradients(model, name):
    """Of every parameter that a pass over queries reaches."""
    model.zero_grad()
    rows = model.processor(contents(name), "query")
    embeddings = model.encode_query(rows)
    (
        embeddings.vectors.float() * torch.linspace(-1, 1, embeddings.vectors.numel()).view_as(embeddings.vectors)
    ).sum().backward()
    return embeddings.vectors.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", SIZES)
def test_compiled_blocks_give_the_same_gradients_and_keep_their_names(name):
    torch.manual_seed(0)
    cls = MODELS[name]
    model = cls.from_config(cls.Config(**SIZES[name])).eval()
    vectors, eager = gradients(model, name)
    names = list(model.state_dict())
    assert compile_blocks(model, backend="aot_eager") > 0
    compiled_vectors, compiled = gradients(model, name)
    assert list(model.state_dict()) == names
    torch.testing.assert_close(compiled_vectors, vectors, rtol=1e-5, atol=1e-6)
    assert compiled.keys() == eager.keys()
    for key, value in eager.items():
        torch.testing.assert_close(compiled[key], value, rtol=1e-4, atol=1e-6)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.drop = nn.Linear(8, 8), nn.Dropout(0.5)

    def forward(self, x):
        return x + self.drop(torch.tanh(self.linear(x)))


def replayed(compiled):
    """What GradCache's first passes and its replay of them gave, and the gradient."""
    torch.manual_seed(0)
    model, seen = nn.Module(), []
    model.layers = nn.ModuleList([Block(), Block()])
    if compiled:
        compile_blocks(model)

    def encode(inputs):
        states = inputs.dense["x"]
        for block in model.layers:
            states = block(states)
        seen.append(states.detach().clone())
        return Embeddings(states)

    rows = torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
    encoding = CachedEncoding(encode, Inputs({"x": rows}), fixed_chunks(8, 4))
    (encoding.embeddings.vectors * torch.linspace(-1, 1, 64).view(8, 8)).sum().backward()
    encoding.replay()
    return torch.cat(seen[:2]), torch.cat(seen[2:]), [p.grad for p in model.parameters()]


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor compiles C++")
@pytest.mark.parametrize("limit", [1, 8])  # 1: the second version, with a graph, is one too many, and runs eagerly
def test_dropout_of_compiled_blocks_is_the_same_in_gradcaches_replay_and_without_compiling(limit):
    torch._dynamo.reset()
    with torch._dynamo.config.patch(recompile_limit=limit):
        first, again, gradient = replayed(compiled=True)
    eager, _, expected = replayed(compiled=False)
    torch.testing.assert_close(again, first, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(first, eager, rtol=1e-6, atol=1e-6)
    for ours, theirs in zip(gradient, expected):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
