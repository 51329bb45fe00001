"""Before a stage: send what frozen towers will see through them once, and keep the outputs (`data/features.py`)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from mmret.data.features import FeatureReader, FeatureWriter, fingerprint
from mmret.ops import rank_and_world
from mmret.recipe.schema import FeatureCacheConfig
from mmret.training.progress import track
from mmret.types import Content, Role

logger = logging.getLogger(__name__)

ROWS = 64
"""Contents encoded at once."""


def fill_feature_cache(
    model: Any,
    contents: Iterable[tuple[Role, Content]],
    config: FeatureCacheConfig,
    *,
    frozen: set[str] | None = None,
    total: int | None = None,
) -> dict[str, int]:
    """Encode what is not cached yet, and let the model's processor read it.

    Args:
        model: a retriever with `towers`, `tower_features` and a processor with `tower_keys` and `features`.
        contents: everything a stage or an evaluation will encode, repeats allowed.
        frozen: names of the towers that may be cached; None: those without a trainable parameter.
        total: number of contents, for the progress bar.

    Returns:
        Rows newly encoded by each tower on this rank.
    """
    towers = model.towers()
    if frozen is None:
        frozen = {name for name, tower in towers.items() if not any(p.requires_grad for p in tower.parameters())}
    model.processor.features = {}
    if not frozen:
        return {}
    root = Path(config.folder).expanduser()
    prints = {name: fingerprint(towers[name].state_dict(), name_of(towers[name]), config.dtype) for name in frozen}
    readers = {name: FeatureReader(root / prints[name]) for name in frozen}
    rank, world = rank_and_world()
    counts = dict.fromkeys(frozen, 0)
    writers: dict[str, FeatureWriter] = {}
    full = False
    training = model.training
    model.eval()
    for role, rows in _missing(model.processor, track(contents, "Encoding frozen towers", total), readers, rank, world):
        if full:
            continue
        inputs = model.processor(rows, role).to(next(model.parameters()).device)
        keys = model.processor.tower_keys(rows, role)
        with torch.inference_mode():
            features = model.tower_features(inputs, role)
        for name in frozen & features.keys():
            for key, row in zip(keys[name], features[name]):
                if key is None or key in readers[name]:
                    continue
                if name not in writers:
                    writers[name] = FeatureWriter(root, prints[name], config.dtype, config.max_gb)
                if not writers[name].add(key, row):
                    full = True
                    break
                counts[name] += 1
    for writer in writers.values():
        writer.close()
    model.train(training)
    if full:
        logger.warning(
            "feature cache %s is full (feature_cache.max_gb = %g): the rest is encoded as it comes; "
            "raise max_gb or delete old folders there",
            root,
            config.max_gb,
        )
    if world > 1:
        torch.distributed.barrier()
    for reader in readers.values():
        reader.refresh()
    model.processor.features = readers
    return counts


def name_of(tower: torch.nn.Module) -> str:
    """What a tower is, beside its weights: class and configuration."""
    config = getattr(tower, "config", None)
    return f"{type(tower).__name__} {config.to_json_string() if hasattr(config, 'to_json_string') else ''}"


def _missing(
    processor: Any,
    contents: Iterable[tuple[Role, Content]],
    readers: dict[str, FeatureReader],
    rank: int,
    world: int,
) -> Iterator[tuple[Role, list[Content]]]:
    """Batches of contents of which some tower's output is not cached, each content once, this rank's share."""
    pending: dict[Role, list[Content]] = {"query": [], "document": []}
    wanted: set[tuple[str, bytes]] = set()
    seen: set[tuple[Role, str | None, str | None, tuple[bytes, ...]]] = set()
    for role, content in contents:
        identity = (role, content.text, content.instruction, tuple(image.key for image in content.images))
        if identity in seen:
            continue
        seen.add(identity)
        keys = processor.tower_keys([content], role)
        new = [
            (name, key)
            for name, reader in readers.items()
            for key in keys.get(name, [])
            if key is not None and (name, key) not in wanted and key not in reader
        ]
        if not new:
            continue
        wanted.update(new)
        if int.from_bytes(new[0][1][:4], "big") % world != rank:
            continue
        pending[role].append(content)
        if len(pending[role]) == ROWS:
            yield role, pending[role]
            pending[role] = []
    for role, rows in pending.items():
        if rows:
            yield role, rows


def stage_contents(data: Any) -> Iterator[tuple[Role, Content]]:
    """Everything a stage's data module can put into a batch; documents of a table come from the table, once."""
    for source in data.sources().values():
        for index in range(len(source)):
            example = source.example(index)
            yield "query", example.query
            if source.documents is None:
                for document in (*example.positives, *example.negatives):
                    yield "document", document
        if source.documents is not None:
            for document in source.all_documents():
                yield "document", document
