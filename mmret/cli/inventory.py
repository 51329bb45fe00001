"""What a recipe needs on disk, and what of it is there: shards, tables, weights. Nothing is opened but manifests."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmret.data.remote import is_remote
from mmret.data.shards import Manifest
from mmret.data.spec import DataSpec
from mmret.errors import ConfigError
from mmret.recipe import Recipe, Stage
from mmret.recipe.shipped import shown

WEIGHT_KEYS = ("text", "tokenizer", "vision", "vision_weights", "language", "backbone", "weights")
"""Fields of model sections that name files or hub repositories."""
INSIDE = ("tiny", "timm:", "open_clip:")
"""Beginnings of names that are no files: sizes for tests, and libraries that fetch their own weights."""
OPEN_CLIP = INSIDE[2]
COMPOSED = "composed"
"""A backbone whose parts are named apart."""


@dataclass(frozen=True)
class SourceFacts:
    """One data spec on disk."""

    name: str
    shards: int | None
    """None: the manifest is not here, or lies elsewhere."""
    rows: int | None
    megabytes: float | None
    missing: tuple[str, ...] = ()
    """Files that are not here."""


@dataclass
class Inventory:
    """What `mmret check` says of the disk."""

    sources: dict[str, SourceFacts] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    """A line for each thing that a run would have to fetch or would fail on."""


def take_inventory(recipe: Recipe) -> Inventory:
    """Look for everything that the recipe names."""
    found = Inventory()
    for stage in recipe.stages:
        mixtures = [stage.data, *([stage.validation] if stage.validation else [])]
        for name in (name for mixture in mixtures for name in mixture.sources if name not in found.sources):
            facts = look_at(name)
            found.sources[name] = facts
            found.missing += [f"data {name}: {line}" for line in facts.missing]
        if stage.init_from not in (None, "previous") and not Path(stage.init_from).expanduser().exists():
            found.missing.append(f"stage {stage.name}: init_from {stage.init_from}: no such folder")
        found.missing += missing_tokenizers(stage).values()
    found.missing += missing_weights(recipe.model).values()
    for target in recipe.evaluation.benchmarks:
        found.missing += missing_queries(target)
    return found


def look_at(name: str) -> SourceFacts:
    """Counts of a data spec from its manifest, and which of its files are not here."""
    try:
        spec = DataSpec.load(name)
    except ConfigError as error:
        return SourceFacts(name, None, None, None, (str(error),))
    tables = [
        spec.resolve(table) for table in (spec.documents, spec.images, spec.negatives) if table and not is_remote(table)
    ]
    missing = [f"{shown(path)} (table)" for path in tables if not path.is_file()]
    if spec.classes and not is_remote(spec.classes) and not spec.resolve(spec.classes).is_file():
        missing.append(f"{shown(spec.resolve(spec.classes))} (classes)")
    if is_remote(spec.shards):
        return SourceFacts(name, None, None, None, tuple(missing))  # looked at when the run fetches it
    path = spec.resolve(spec.shards)
    if not path.is_file():
        return SourceFacts(name, None, None, None, (f"{shown(path)} (manifest)", *missing))
    try:
        manifest = Manifest.load(path)
        here = [manifest.shard_path(n) for n in range(len(manifest.shards)) if manifest.address(n) is None]
    except ConfigError as error:
        return SourceFacts(name, None, None, None, (str(error), *missing))
    absent = [shown(path) for path in here if not path.is_file()]
    if absent:
        missing.insert(0, f"{len(absent)} of {len(manifest.shards)} shards, the first {absent[0]}")
    megabytes = sum(shard.bytes for shard in manifest.shards) / 1e6
    return SourceFacts(name, len(manifest.shards), len(manifest), megabytes, tuple(missing))


def missing_queries(target: str) -> list[str]:
    """Files of a benchmark, or of one of its splits, that are not here: what a run would miss after its training."""
    from mmret.evaluation.benchmark import Benchmark

    benchmark, splits = Benchmark.named(target)
    spec, named = benchmark.spec, {}
    for split in (benchmark.spec.splits[name] for name in splits):
        named |= {split.shards: "manifest", split.images or spec.images: "table"}
    named |= {spec.corpus: "table", spec.classes: "classes"}
    files = {benchmark.file.parent / path: kind for path, kind in named.items() if path and not is_remote(path)}
    return [f"benchmark {target}: {shown(path)} ({kind})" for path, kind in files.items() if not path.is_file()]


def missing_weights(config: Any) -> dict[str, str]:
    """What the model section names that is neither a file nor in the hub's local cache, with a line to say so."""
    from mmret.models.backbones import find_local

    missing = {}
    sections = {"model": config, "model.composed": getattr(config, COMPOSED, None)}
    named = [
        (f"{place}.{key}", getattr(section, key, None)) for place, section in sections.items() for key in WEIGHT_KEYS
    ]
    for key, name in named:
        if not isinstance(name, str) or name == COMPOSED:
            continue
        if name.startswith(OPEN_CLIP) and "/" in name.partition("/")[2]:  # open_clip:MODEL/path/to/weights
            name = name.partition("/")[2]
        elif name.startswith(INSIDE):
            continue
        try:
            if find_local(name) is None and not _in_hub_cache(name):
                missing[name] = f"weights {key}: '{name}' is not here; a run would fetch it from the model hub"
        except ConfigError as error:
            missing[name] = f"weights {key}: {error}"
    return missing


def missing_tokenizers(stage: Stage) -> dict[str, str]:
    """Visual tokenizers that the stage's objectives name and that are not here, with a line to say so."""
    from mmret.models.visual_tokenizer import find_visual_tokenizer

    missing = {}
    for key, config in stage.active_objectives.items():
        if config.name == "mim":
            try:
                find_visual_tokenizer(config.tokenizer)
            except ConfigError as error:
                missing[config.tokenizer] = f"stage {stage.name}: {key}.tokenizer {error}"
    return missing


def _in_hub_cache(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json"), str)
