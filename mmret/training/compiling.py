"""`trainer.compile`: the towers' repeated blocks through torch.compile, each kind once."""

from __future__ import annotations

import logging

from torch import nn

from mmret.models.depth import blocks

logger = logging.getLogger(__name__)


def compile_blocks(model: nn.Module, backend: str = "inductor") -> int:
    """Compile each block in place; gives their number.

    Blocks of one shape share their code, so a deep tower compiles in the time of one block (torch's regional
    compilation); what is around them, ragged pictures, gathers, losses, stays eager. Names of parameters stay as they
    are, and so do checkpoints. Lengths that vary make one more, dynamic, version.

    Dropout draws as it does uncompiled. Inductor's own draws depend on which version of a block runs: GradCache's
    replay, which may be another one than its first pass, could drop other places, and so could a resumed run.
    """
    found = blocks(model)
    options = {"fallback_random": True} if backend == "inductor" else None
    for block in found:
        block.compile(backend=backend, options=options)
    logger.info("torch.compile: %d blocks, compiled when they first run", len(found))
    return len(found)
