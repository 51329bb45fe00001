"""torch.compile by one key: the same numbers, the same names."""

import pytest
import torch

from mmret.models import MODELS
from mmret.training.compiling import compile_blocks
from mmret.types import Content, EncodedImage
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
