"""What the backward pass keeps of one row, found by running the encoders without memory or arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from mmret.errors import ConfigError
from mmret.ops.memory import count_saved, storages
from mmret.types import Content, EncodedImage, Inputs, Processor, Role

TEXT = "word " * 600
"""More tokens than any text encoder here has places."""
DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def bytes_kept(model: Any, processor: Processor, precision: str) -> tuple[int, int]:
    """Bytes that autograd keeps of one query and of one document of full length, parameters apart.

    Args:
        model: a `skeleton`, `requires_grad` as in training; its parameters are replaced by fake ones.
        precision: the trainer's.
    Raises:
        Exception: whatever the architecture meets that needs real numbers.
    """
    # Fake CPU tensors and not bare meta ones: kernels and autocast are chosen as for real ones, and libraries leave
    # out what looks at values.
    mode = FakeTensorMode()
    own = _make_fake(model, mode)

    def kept_of(content: Content, role: Role) -> int:
        inputs = processor([content], role)
        dense = {key: _fake(value, mode) for key, value in inputs.dense.items()}
        fake = Inputs(dense, {key: [_fake(value, mode) for value in values] for key, values in inputs.ragged.items()})
        dtype = DTYPES.get(precision)
        with mode, count_saved(own) as kept, torch.autocast("cpu", dtype, enabled=dtype is not None):
            (model.encode_query if role == "query" else model.encode_document)(fake)
        return sum(kept.values())

    return _largest(kept_of, "query"), _largest(kept_of, "document")


def _largest(kept_of: Callable[[Content, Role], int], role: Role) -> int:
    """Of a row with text and picture; where the model takes one of them only, of the larger."""
    from PIL import Image

    picture = EncodedImage.of(Image.new("RGB", (64, 64)))
    try:
        return kept_of(Content(text=TEXT, images=(picture,)), role)
    except ConfigError:
        return max(kept_of(Content(text=TEXT), role), kept_of(Content(images=(picture,)), role))


def _fake(tensor: Tensor, mode: FakeTensorMode) -> Tensor:
    return FakeTensor(mode, tensor.detach().to("meta"), torch.device("cpu"))


def _make_fake(model: nn.Module, mode: FakeTensorMode) -> set[int]:
    """Give the model fake parameters and buffers, in place; returns their storages."""
    fakes: dict[int, Any] = {}
    for module in model.modules():
        for table in (module._parameters, module._buffers):
            for name, tensor in table.items():
                if tensor is not None and id(tensor) not in fakes:
                    fake = _fake(tensor, mode)
                    parameter = table is module._parameters
                    fakes[id(tensor)] = nn.Parameter(fake, tensor.requires_grad) if parameter else fake
                table[name] = fakes.get(id(tensor))
    return storages(fakes.values())
