"""Classifiers against the classes of their data and benchmarks, compared before anything trains."""

from __future__ import annotations

from collections.abc import Iterator

from mmret.data.classes import Classes
from mmret.data.spec import DataSpec
from mmret.errors import ConfigError
from mmret.evaluation.benchmark import Benchmark
from mmret.objectives import ClassifyConfig
from mmret.recipe.schema import Recipe, Stage

Found = Iterator[tuple[tuple[str | int, ...], str]]
"""Places in the recipe and what is wrong there."""


def check_classes(recipe: Recipe) -> None:
    """See that every classifier has as many outputs as its data has classes.

    Raises:
        ConfigError: one has not; a line for each.
    """
    lines = [f"{'.'.join(map(str, path))}: {message}" for path, message in class_mismatches(recipe)]
    if lines:
        raise ConfigError("\n".join(lines))


def class_mismatches(recipe: Recipe) -> Found:
    """Where a classifier, its data and the benchmarks of its head disagree. Files that are not here are passed over."""
    for index, stage in enumerate(recipe.stages):
        for key, config in _heads(stage).items():
            path = ("stages", index, "objectives", key, "num_classes")
            for place in ("data", "validation"):
                mixture = getattr(stage, place)
                for name in [] if mixture is None else [n for n, s in mixture.sources.items() if s.weight]:
                    message = _mismatch(config, name)
                    if message:
                        yield path, f"{place}.sources {message}"
    last = recipe.stages[-1:]
    yield from _benchmarks(recipe, "benchmarks", last)
    yield from _benchmarks(recipe, "during_training", recipe.stages)


def _benchmarks(recipe: Recipe, key: str, stages: list[Stage]) -> Found:
    """Each classification is answered by a head of one of the stages, with as many outputs as it has classes."""
    for index, target in enumerate(getattr(recipe.evaluation, key)):
        try:
            benchmark, _ = Benchmark.load_target(target)
            if not benchmark.classifies:
                continue
            num_classes, file = len(benchmark.classes), benchmark.classes.file
        except ConfigError:  # another check's, or missing here
            continue
        path, name = ("evaluation", key, index), benchmark.spec.objective
        found = [heads[name] for stage in stages if name in (heads := _heads(stage))]
        if not found:
            lacking = f"stage {stages[0].name} has not" if len(stages) == 1 else "no stage has"
            yield path, f"is answered by a classify objective named '{name}', which {lacking}"
        for config in found:
            if config.num_classes != num_classes:
                yield path, f"has {num_classes:,} classes ({file}), objective '{name}' {config.num_classes:,}"


def _heads(stage: Stage) -> dict[str, ClassifyConfig]:
    return {key: config for key, config in stage.objectives.items() if isinstance(config, ClassifyConfig)}


def _mismatch(config: ClassifyConfig, source: str) -> str | None:
    try:
        spec = DataSpec.load(source)
    except ConfigError:  # another check's
        return None
    if spec.classes is None:
        return f"{source}: {spec.file} names no `classes` (a text file, one class a line), which classify reads"
    if not spec.resolve(spec.classes).is_file():
        return None
    try:
        classes = Classes.load(spec.resolve(spec.classes))
    except ConfigError as error:
        return f"{source}: {error}"
    if len(classes) != config.num_classes:
        return (
            f"{source} has {len(classes):,} classes ({classes.file}), this objective {config.num_classes:,}; the "
            "answer vocabulary must be the one that the data was made with"
        )
    return None
