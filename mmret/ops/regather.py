"""A tensor that is cheap to make and dear to keep: autograd makes it again instead of keeping it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


@contextmanager
def regathered(make: Callable[[], Tensor]) -> Iterator[Tensor]:
    """`make()`, for use inside; what would be kept of it for the backward pass is made anew there.

    Gradients are those without this, and go through the tensor that is given: `make` is called again for its values
    only. What it reads must not change in between. Other tensors are kept as ever.

    Args:
        make: gives the same values, in the same layout, each time.
    """
    tensor = make()
    storage = tensor.untyped_storage()._cdata  # not the address of the data: tensors without data have none

    def pack(saved: Tensor) -> Any:
        # A kernel may keep a view of it, expanded over the batch say; a view is told by its storage.
        if saved.untyped_storage()._cdata != storage:
            return saved
        return saved.size(), saved.stride(), saved.storage_offset()

    def unpack(packed: Any) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        with torch.no_grad():
            return make().as_strided(*packed)

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield tensor
