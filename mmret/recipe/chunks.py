"""Whether a stage's rows can be cut up and be ragged: what its objectives, its chunks and its batch say to that."""

from __future__ import annotations

from collections.abc import Iterator

from mmret.recipe import tables
from mmret.recipe.problem import KeyPath, Unread
from mmret.recipe.schema import Recipe


def check_chunks(recipe: Recipe, index: int, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Embeddings are all that the stage's objectives need, and its chunks are parts of a batch."""
    stage, data = recipe.stages[index], recipe.stages[index].data
    ragged = not data.fill_negatives
    for key, config in stage.objectives.items():
        try:
            needs = tables.objectives()[config.name].needs if config.weight else frozenset()
        except Unread:
            continue
        beyond = sorted(need.value for need in needs if need.name not in ("DOCUMENT", "NEGATIVES"))
        if stage.grad_cache is not None and beyond:
            text = f"needs {', '.join(beyond)}, which passes through the model again and has no cached gradient"
            yield (*path, "objectives", key), f"{config.name} {text}; leave grad_cache out of this stage"
        if ragged and {"PAIR", "MASKED_QUERY"} & {need.name for need in needs}:
            text = "draws pairs from a batch in which every query has as many documents"
            yield (*path, "objectives", key), f"{config.name} {text}; leave data.fill_negatives: false out"
    if stage.grad_cache is None or stage.grad_cache.chunk_size is None or recipe.trainer.devices == "auto":
        return
    ranks = int(recipe.trainer.devices) * recipe.trainer.num_nodes
    rows = data.batch_size // (ranks * recipe.trainer.accumulate)
    message = chunk_too_large(stage.grad_cache.chunk_size, rows * data.documents_per_query)
    if message:
        yield (*path, "grad_cache", "chunk_size"), message


def chunk_too_large(chunk_size: int, most: int) -> str | None:
    """What to say of chunks larger than the longer side, `most` rows, of a rank's batch; None if they are not."""
    if chunk_size <= most:
        return None
    return (
        f"{chunk_size} rows a chunk, but a rank's part of a batch has {most} at most: nothing would be cut up. Lower "
        f"it to {most} or less, enlarge data.batch_size, or leave grad_cache out"
    )
