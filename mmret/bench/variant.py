"""Variants with all that the bench says in place: the same evaluation for all, and differences in data known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmret.bench.config import Bench, Variant
from mmret.bench.read import LoadedBench
from mmret.errors import ConfigError
from mmret.recipe import LoadedRecipe, Recipe, read_recipe
from mmret.recipe.overrides import parse_path
from mmret.recipe.shipped import find

OWN = ("name", "out", "seed", "evaluation")
"""Sections of a recipe that the bench decides, so no variant may."""


@dataclass(frozen=True)
class ResolvedVariant:
    """A variant as it will be run, but for seed and number of steps."""

    name: str
    file: Path
    overrides: tuple[str, ...]
    """Bench's, variant's, sweep's and the evaluation's, in this order."""
    loaded: LoadedRecipe
    share: float = 1.0
    environ: Mapping[str, str] = field(default_factory=dict)
    """What its processes get beside this one's."""
    data_differs: bool = False
    """It trains on other sources than the rest, its overrides change them, or its `environ` says where they lie."""
    sweep_of: str | None = None
    """Of a sweep: the variant that it is a setting of."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Of a sweep: key -> value."""

    @property
    def recipe(self) -> Recipe:
        """With the overrides."""
        return self.loaded.recipe


def resolve_variants(
    loaded: LoadedBench, settings: Sequence[Mapping[str, str]] = ({},), only: Sequence[str] = ()
) -> list[ResolvedVariant]:
    """Every variant, or those of `only`, under each of a sweep's settings.

    Raises:
        ConfigError: a recipe or an override is wrong (the text says of which variant), variants would be measured on
            different sets, or `only` names one that is not there.
    """
    bench = loaded.bench
    unknown = [name for name in only if name not in bench.variants]
    if unknown:
        raise ConfigError(f"--only {' '.join(unknown)}: no such variant; known: {', '.join(bench.variants)}")
    found, wrong = [], []
    for name, variant in bench.variants.items():
        for setting in settings:
            try:
                found.append(_resolve(loaded, name, variant, setting))
            except ConfigError as error:
                wrong.append(f"{loaded.path}: variants.{name}: {error}")
                break
    if wrong:
        raise ConfigError("\n".join(wrong))
    _same_evaluation(loaded, found)
    usual = set(bench.sources) or sources_of(found[0].recipe)
    told = []
    for one in found:
        own = bench.variants[one.sweep_of or one.name].overrides
        differs = sources_of(one.recipe) != usual or any(_changes_data(text) for text in own) or bool(one.environ)
        told.append(ResolvedVariant(**{**vars(one), "data_differs": differs}))
    return [one for one in told if not only or (one.sweep_of or one.name) in only]


def sources_of(recipe: Recipe) -> set[str]:
    """Names of the sources that some stage trains on."""
    return {name for stage in recipe.stages for name, source in stage.data.sources.items() if source.weight}


def _resolve(loaded: LoadedBench, name: str, variant: Variant, setting: Mapping[str, str]) -> ResolvedVariant:
    bench = loaded.bench
    recipe = str(variant.recipe or bench.recipe)
    file = Path(recipe) if Path(recipe).is_file() else find("recipe", recipe, near=loaded.path.parent)
    for text in (*bench.overrides, *variant.overrides):
        path = parse_path(text.partition("=")[0].removeprefix("~"))
        if path is not None and path[0] in OWN:
            raise ConfigError(f"overrides: {text}: {path[0]} is the bench's to say, so that it is the same for all")
    overrides = list(bench.overrides)
    if bench.sources:
        stages = read_recipe(file, overrides).recipe.stages
        overrides += [f"stages[{index}].data.sources={json.dumps(bench.sources)}" for index in range(len(stages))]
    overrides += variant.overrides
    if setting:
        stages = read_recipe(file, overrides).recipe.stages
        overrides += [text for key, value in setting.items() for text in _setting(key, value, len(stages))]
    overrides += _evaluation(bench)
    values = "+".join(f"{key.rpartition('.')[2]}-{value}" for key, value in setting.items())
    return ResolvedVariant(
        f"{name}+{_fit_for_folder(values)}" if setting else name,
        file,
        tuple(overrides),
        read_recipe(file, overrides),
        variant.share,
        variant.environ,
        sweep_of=name if setting else None,
        settings=dict(setting),
    )


def _setting(key: str, value: str, stages: int) -> list[str]:
    """A sweep's key: one of the recipe's own, or of every stage ("optimizer.lr")."""
    first = key.partition(".")[0].partition("[")[0]
    if first in Recipe.__dataclass_fields__:
        return [f"{key}={value}"]
    return [f"stages[{index}].{key}={value}" for index in range(stages)]


def _evaluation(bench: Bench) -> list[str]:
    """Measured once, at the end, all on the same."""
    wanted = bench.evaluation
    targets = list(dict.fromkeys((*wanted.benchmarks, *wanted.validation)))
    told = [f"evaluation.benchmarks={json.dumps(targets)}"] if wanted.benchmarks else []
    return [*told, "evaluation.during_training=[]", f"evaluation.controls={json.dumps(wanted.controls)}"]


def _same_evaluation(loaded: LoadedBench, variants: Sequence[ResolvedVariant]) -> None:
    sets = {one.name: sorted(one.recipe.evaluation.benchmarks) for one in variants}
    if len({tuple(names) for names in sets.values()}) > 1:
        lines = "\n".join(f"  {name}: {', '.join(names) or 'nothing'}" for name, names in sets.items())
        raise ConfigError(
            f"{loaded.path}: variants are measured on different sets, so their numbers cannot be compared:\n{lines}\n"
            "name the sets for all: evaluation: {benchmarks: [...]}"
        )
    if not next(iter(sets.values())):
        raise ConfigError(f"{loaded.path}: nothing is measured; name sets: evaluation: {{benchmarks: [...]}}")


def _changes_data(text: str) -> bool:
    path = parse_path(text.partition("=")[0].removeprefix("~")) or ()
    return path[0:1] == ("stages",) and path[2:3] == ("data",) and path[3:4] in ((), ("sources",))


def _fit_for_folder(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "_.+-" else "-" for letter in text)
