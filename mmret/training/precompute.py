"""Before a stage: send what frozen towers will see through them once, and keep the outputs (`data/features.py`)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from msgspec.structs import replace

from mmret.data.features import FeatureReader, FeatureWriter, fingerprint
from mmret.errors import SampleError
from mmret.evaluation.encode import evaluating
from mmret.ops import rank_and_world
from mmret.recipe.schema import FeatureCacheConfig
from mmret.training.progress import track
from mmret.types import Content, Inputs, Role

logger = logging.getLogger(__name__)

ROWS = 64
"""Contents encoded at once."""
SORTED_BATCHES = 16
"""Batches' worth of contents sorted by length before they are cut into batches: less padding."""


def fill_feature_cache(
    model: Any,
    contents: Iterable[tuple[Role, Content]],
    config: FeatureCacheConfig,
    *,
    frozen: set[str] | None = None,
    total: int | None = None,
    device: torch.device | str | None = None,
) -> dict[str, int]:
    """Encode what is not cached yet, and let the model's processor read it.

    Args:
        model: a retriever with `towers`, `tower_features` and a processor with `tower_keys` and `features`.
        contents: everything a stage or an evaluation will encode, repeats allowed.
        frozen: names of the towers that may be cached; None: those without a trainable parameter.
        total: number of contents, for the progress bar.
        device: the model goes there, and back (a stage's own is on the CPU until its fit); None: it stays.

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
    written: set[tuple[str, bytes]] = set()
    full = False
    with evaluating(model, device) as place:
        rest = track(contents, "Encoding frozen towers", total)
        for role, rows in _missing(model.processor, rest, readers, rank, world):
            if full:
                break
            rows, inputs = _processed(model.processor, rows, role)
            if not rows:
                continue
            inputs = inputs.to(place)
            if not any(content.images for content in rows):
                # Else a picture that stands in for a missing one would be encoded over and over.
                inputs = Inputs({k: v for k, v in inputs.dense.items() if k not in ("pixel_values", "use_image")})
            keys = model.processor.tower_keys(rows, role)
            features = model.tower_features(inputs, role)
            for name in sorted(frozen & features.keys()):
                for key, row in zip(keys[name], features[name]):
                    if key is None or key in readers[name] or (name, key) in written:
                        continue
                    if name not in writers:
                        writers[name] = FeatureWriter(root, prints[name], config.dtype, config.max_gb)
                    if not writers[name].add(key, row):
                        full = True
                        break
                    written.add((name, key))
                    counts[name] += 1
    for writer in writers.values():
        writer.close()
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
    return f"{type(tower).__name__} {getattr(tower, 'config', '')}"


def _missing(
    processor: Any,
    contents: Iterable[tuple[Role, Content]],
    readers: dict[str, FeatureReader],
    rank: int,
    world: int,
) -> Iterator[tuple[Role, list[Content]]]:
    """Batches of contents of which some tower's output is not cached: each once, this rank's share, alike in length."""
    waiting: dict[tuple[Role, bool], list[Content]] = {}
    wanted: set[tuple[str, bytes]] = set()
    seen: set[tuple[Role, str | None, str | None, tuple[bytes, ...]]] = set()
    for role, content in contents:
        identity = (role, content.text, content.instruction, tuple(image.key for image in content.pictures))
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
        wanted.update(new)
        if not new or int.from_bytes(new[0][1][:4], "big") % world != rank:
            continue
        # A known picture under a new question: only the text is encoded.
        pictured = any(name == "vision" for name, _ in new)
        rows = waiting.setdefault((role, pictured), [])
        rows.append(content if pictured else replace(content, images=()))
        if len(rows) == ROWS * SORTED_BATCHES:
            yield from _batches(role, waiting.pop((role, pictured)))
    for (role, _), rows in waiting.items():
        yield from _batches(role, rows)


def _processed(processor: Any, rows: list[Content], role: Role) -> tuple[list[Content], Inputs]:
    """Model inputs, without the rows that cannot be read: training meets those again, replaces and counts them."""
    try:
        return rows, processor(rows, role)
    except SampleError:
        kept = [row for row in rows if _readable(processor, row, role)]
        return kept, processor(kept, role) if kept else Inputs()


def _readable(processor: Any, row: Content, role: Role) -> bool:
    try:
        processor([row], role)
    except SampleError as error:
        logger.warning("feature cache: left out %s", error)
        return False
    return True


def _batches(role: Role, rows: list[Content]) -> Iterator[tuple[Role, list[Content]]]:
    rows = sorted(rows, key=lambda content: len(content.text or ""))
    for start in range(0, len(rows), ROWS):
        yield role, rows[start : start + ROWS]


def stage_contents(data: Any) -> Iterator[tuple[Role, Content]]:
    """What a stage's data module puts into batches, and all documents of its sources' tables."""
    drawn = data.drawn()
    for name, source in data.sources().items():
        yield from source.contents(drawn[name])
