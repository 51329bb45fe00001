"""Whether activation checkpointing inside GradCache saves anything: both compute twice to keep less."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from mmret.models.retriever import Retriever
from mmret.ops.grad_cache import RandomState
from mmret.ops.memory import GraphMemory, free_bytes, is_out_of_memory
from mmret.types import Inputs

logger = logging.getLogger(__name__)

_SWITCH = "gradient_checkpointing"
"""Attribute of transformers' modules."""


def judge_checkpointing(model: Retriever, chunk: Inputs, memory: GraphMemory) -> None:
    """Warn if the model checkpoints its activations though a chunk's graph fits without that.

    A chunk is then computed three times instead of twice (4 units of work against 3, where a forward pass is 1 and only
    adapters train). It is found by making the graph of one chunk of queries once.
    """
    checkpointed = [m for m in model.modules() if getattr(m, _SWITCH, False) is True and m.training]
    if not checkpointed:
        return
    free = free_bytes(memory.device)
    with RandomState().again(), _switched_off(checkpointed):
        try:
            with memory.measure() as size:
                model.encode_query(chunk)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            size = []
    # The backward pass needs about as much beside the graph.
    if size and free is not None and 2 * size[0] <= free:
        logger.warning(
            "activation checkpointing inside grad_cache computes each chunk three times, and saves nothing here: the "
            "graph of a chunk of %d rows takes %.2f of %.1f GiB free. Switch it off (model.gradient_checkpointing: "
            "false)",
            len(chunk),
            size[0] / 2**30,
            free / 2**30,
        )
    elif len(chunk) > 1:
        logger.warning(
            "activation checkpointing inside grad_cache computes each chunk three times; a smaller "
            "grad_cache.chunk_size saves memory without (now %d rows)",
            len(chunk),
        )


@contextmanager
def _switched_off(modules: list[nn.Module]) -> Iterator[None]:
    for module in modules:
        setattr(module, _SWITCH, False)
    try:
        yield
    finally:
        for module in modules:
            setattr(module, _SWITCH, True)
