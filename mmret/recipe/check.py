"""What must agree between the fields of a recipe, and what its names must find."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import yaml

from mmret.errors import ConfigError
from mmret.recipe import tables
from mmret.recipe.chunks import check_chunks
from mmret.recipe.problem import KeyPath, Problems, Unread, did_you_mean
from mmret.recipe.resolved import stage_model_config
from mmret.recipe.rules import broken_regex
from mmret.recipe.schema import Recipe
from mmret.recipe.sections import Partial
from mmret.recipe.sharding import check_sharding
from mmret.recipe.shipped import find, shown
from mmret.recipe.yaml_marks import Node

Found = Iterator[tuple[KeyPath, str]]
"""Places and what is wrong there."""

RESERVED = ("evaluation",)
"""Folders of a run that are no stages."""


def check_across(recipe: Recipe, root: Node, problems: Problems) -> None:
    """Run every check; one that needs a value which could not be read is left out."""
    for found in _checks(recipe):
        try:
            for path, message in found:
                problems.add(root.locate(path), path, message)
        except Unread:
            continue


def _checks(recipe: Recipe) -> Iterator[Found]:
    """Generators: each looks at the recipe only while it runs, so that `Unread` ends that check alone."""
    yield _stage_names(recipe)
    yield _benchmarks(recipe)
    yield _rerank(recipe)
    yield check_sharding(recipe)
    for index, path in enumerate(_stage_paths(recipe)):
        yield _mixture(recipe, index, (*path, "data"))
        yield _mixture(recipe, index, (*path, "validation"))
        yield _sources(recipe, index, (*path, "data"))
        yield _sources(recipe, index, (*path, "validation"))
        yield _regexes(recipe, index, path)
        yield _objectives(recipe, index, path)
        yield check_chunks(recipe, index, path)
        yield _augment(recipe, index, path)
        yield _stage_model(recipe, index, path)


def _stage_paths(recipe: Recipe) -> list[KeyPath]:
    try:
        return [("stages", index) for index in range(len(recipe.stages))]
    except Unread:
        return []


def _stage_names(recipe: Recipe) -> Found:
    if not recipe.stages:
        yield ("stages",), "is empty; a recipe has at least one stage"
    seen: dict[str, int] = {}
    for index, stage in enumerate(recipe.stages):
        try:
            name = stage.name
        except Unread:
            continue
        if name in seen:
            yield ("stages", index, "name"), f"'{name}' is the name of stages[{seen[name]}] already; names are unique"
        if name in RESERVED:
            yield ("stages", index, "name"), f"'{name}' is a folder of the run that is no stage's; choose another"
        seen.setdefault(name, index)


def _mixture(recipe: Recipe, index: int, path: KeyPath) -> Found:
    """Sizes divide each other."""
    mixture, trainer = getattr(recipe.stages[index], str(path[-1])), recipe.trainer
    if mixture is None:
        return
    batch = mixture.batch_size
    if mixture.block_size is not None and batch % mixture.block_size:
        text = f"blocks of {mixture.block_size} do not fill a batch of {batch}; want a divisor of it"
        yield (*path, "block_size"), text
    if trainer.devices == "auto":  # the number of devices is known at the start only, and checked there
        return
    parts = {"devices": int(trainer.devices), "nodes": trainer.num_nodes}
    if path[-1] == "data":
        parts["accumulate"] = trainer.accumulate
    shares = prod(parts.values())
    if batch % shares:
        low = batch - batch % shares
        near = f"{low} or {low + shares}" if low else f"{shares}"
        how = " x ".join(f"{name} {count}" for name, count in parts.items())
        yield (*path, "batch_size"), f"{batch} does not divide into {shares} equal parts ({how}); nearest: {near}"


def _sources(recipe: Recipe, index: int, path: KeyPath) -> Found:
    """There is data, and it is known here."""
    mixture = getattr(recipe.stages[index], str(path[-1]))
    if mixture is None:
        return
    path = (*path, "sources")
    if not mixture.sources:
        yield path, "is empty; name at least one data spec: `demo/flags: 1.0` (mmret ls data)"
    for name in mixture.sources:
        try:
            find("data spec", name)
        except ConfigError as error:
            yield (*path, name), str(error)
    if mixture.sources and not any(source.weight for source in mixture.sources.values()):
        yield path, "every weight is 0; want one above 0"


def _regexes(recipe: Recipe, index: int, path: KeyPath) -> Found:
    scales = recipe.stages[index].lr_scale
    if not scales:
        yield (*path, "lr_scale"), "is empty; '.*': 1 trains everything"
    for pattern, scale in scales.items():
        why = broken_regex(pattern)
        if why:
            yield (*path, "lr_scale", pattern), f"no regular expression: {why}"
        if not scale >= 0:
            yield (*path, "lr_scale", pattern), f"must be >= 0 (0 freezes), got {scale}"
    if scales and not any(scales.values()):
        yield (*path, "lr_scale"), "every scale is 0: nothing would train"
    train = recipe.stages[index].train
    if train is not None and scales != {".*": 1.0}:
        yield (*path, "train"), f"'{train}' and lr_scale both say what trains; give one of them"


def _objectives(recipe: Recipe, index: int, path: KeyPath) -> Found:
    """The stage has objectives, and its data and model give what they need."""
    stage = recipe.stages[index]
    if not stage.objectives:
        yield (*path, "objectives"), "is empty; name at least one (mmret ls objectives)"
    counted = {key: config for key, config in stage.objectives.items() if _weighs(config)}
    if stage.objectives and not counted:
        yield (*path, "objectives"), "every weight is 0; want one above 0"
    for key, config in counted.items():
        try:
            needs = {need.name for need in tables.objectives()[config.name].needs}
        except Unread:
            continue
        here = (*path, "objectives", key)
        if "NEGATIVES" in needs:
            for place in ("data", "validation"):
                mixture = getattr(stage, place)
                if mixture is not None and mixture.documents_per_query < 2:
                    text = f"needs negatives, but {place}.documents_per_query is 1; want at least 2"
                    yield here, f"{config.name} {text}"
        model = recipe.model.name
        if "PAIR" in needs and not hasattr(tables.models()[model], "encode_pair"):
            yield here, f"{config.name} encodes text and image together, which the model '{model}' cannot (encode_pair)"
        if "MASKED_IMAGE" in needs and not hasattr(tables.models()[model], "encode_image_masked"):
            text = f"{config.name} hides patches of pictures, which the model '{model}' cannot (encode_image_masked)"
            yield here, text


def _augment(recipe: Recipe, index: int, path: KeyPath) -> Found:
    """Features are kept by picture, and no view of a picture comes twice."""
    for place in ("data", "validation"):
        mixture = getattr(recipe.stages[index], place)
        if mixture is not None and mixture.augment is not None and recipe.feature_cache is not None:
            text = "random views of pictures are in no feature_cache; leave out one of the two (~feature_cache)"
            yield (*path, place, "augment"), text


def _weighs(config: Any) -> bool:
    """An objective of weight 0 is left out; one whose weight could not be read is not."""
    try:
        return config.weight != 0
    except Unread:
        return True


def _stage_model(recipe: Recipe, index: int, path: KeyPath) -> Found:
    stage = recipe.stages[index]
    if not stage.model:
        return
    if "name" in stage.model and stage.model["name"] != recipe.model.name:
        yield (*path, "model", "name"), f"a stage cannot change the architecture ('{recipe.model.name}')"
        return
    if not isinstance(recipe.model, Partial):
        try:
            stage_model_config(recipe, stage)
        except ConfigError as error:
            yield (*path, "model"), " / ".join(str(error).splitlines())


def _benchmarks(recipe: Recipe) -> Found:
    prefixes: dict[str, Path] = {}
    for key in ("benchmarks", "during_training"):
        for index, target in enumerate(getattr(recipe.evaluation, key)):
            path = ("evaluation", key, index)
            try:
                file = _benchmark_of(target)
            except ConfigError as error:
                yield path, str(error)
                continue
            other = prefixes.setdefault(file.stem, file)
            if other.resolve() != file.resolve():
                yield path, f"{shown(other)} and {shown(file)} would both write metrics named {file.stem}/..."


def _rerank(recipe: Recipe) -> Found:
    """The model measured last has a head to sort by."""
    if recipe.evaluation.rerank is None:
        return
    path, last = ("evaluation", "rerank"), recipe.stages[-1]
    if not hasattr(tables.models()[recipe.model.name], "encode_pair"):
        yield path, f"reads text and image together, which the model '{recipe.model.name}' cannot (encode_pair)"
    elif "itm" not in {config.name for config in last.active_objectives.values()}:
        yield path, f"sorts by the head of an itm objective, and the last stage '{last.name}' has none"


def _benchmark_of(target: str) -> Path:
    """The spec of "demo/flags", or of the split "demo/flags/heldout"."""
    try:
        return find("benchmark", target)
    except ConfigError:
        stem, _, split = target.rpartition("/")
        try:
            file = find("benchmark", stem) if stem else None
        except ConfigError:
            file = None
        if file is None:
            raise
    splits = _splits(file)
    if split not in splits:
        hint = did_you_mean(split, splits)
        raise ConfigError(f"{shown(file)} has no split '{split}'; it has {', '.join(splits)}.{hint}")
    return file


def _splits(file: Path) -> list[str]:
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{shown(file)} cannot be read: {error}") from error
    splits = tree.get("splits") if isinstance(tree, dict) else None
    return list(splits) if isinstance(splits, dict) else []
