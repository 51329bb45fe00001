"""Scaling curves: quality over one number of the recipe in which variants differ, and over what that number costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from mmret.evaluation.compare.chart import Line, lines
from mmret.evaluation.compare.comparison import Comparison
from mmret.evaluation.compare.diff import NAMING, as_text
from mmret.evaluation.compare.variant import Variant

FOLLOWS = ("steps", "warmup_steps")
"""What a fixed budget sets: these may differ along with another number, as when a larger batch gets fewer steps."""


@dataclass(frozen=True)
class Scale:
    """Variants that are alike but for one number."""

    number: str
    """Last part of its key, "batch_size"; where several stages set it, all of them do alike."""
    values: Mapping[str, float]
    """Variant -> its value, rising."""


def scales(recipes: Mapping[str, Mapping[str, Any]]) -> list[Scale]:
    """All sets of variants that differ in one number only.

    Args:
        recipes: variant -> flat recipe (`flat_recipe`).
    """
    keys = [key for key in dict.fromkeys(k for recipe in recipes.values() for k in recipe) if _means(key)]
    varying = [key for key in keys if len({as_text(recipe, key) for recipe in recipes.values()}) > 1]
    found = []
    for leaf in dict.fromkeys(map(_leaf, varying)):
        strict = _scales(recipes, varying, leaf, {leaf})
        found.extend(strict or _scales(recipes, varying, leaf, {leaf, *FOLLOWS}))
    return found


def _scales(recipes: Mapping[str, Mapping[str, Any]], varying: Sequence[str], leaf: str, free: set[str]) -> list[Scale]:
    """Of the variants that are alike in all keys but the free ones, those that differ in the leaf."""
    mine = [key for key in varying if _leaf(key) == leaf]
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, recipe in recipes.items():
        rest = tuple(as_text(recipe, key) for key in varying if _leaf(key) not in free)
        alike.setdefault(rest, []).append(name)
    found = []
    for names in alike.values():
        values = _one_number([recipes[name] for name in names], mine)
        if values and len(names) > 1 and len(set(values)) == len(names):
            found.append(Scale(leaf, dict(sorted(zip(names, values), key=lambda item: item[1]))))
    return found


def _one_number(recipes: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[float]:
    """The value that all keys which differ between the recipes share in each; empty where there is none."""
    differing = [key for key in keys if len({as_text(recipe, key) for recipe in recipes}) > 1]
    found = []
    for recipe in recipes:
        values = {as_text(recipe, key) for key in differing}
        value = recipe.get(differing[0]) if differing else None
        if len(values) != 1 or isinstance(value, bool) or not isinstance(value, (int, float)):
            return []
        found.append(float(value))
    return found


def scaling_curves(comparison: Comparison) -> list[tuple[str, Markup]]:
    """(caption, SVG) of each scale: over the number itself and, where they differ, over samples and training FLOPs."""
    by_name = {variant.name: variant for variant in comparison.ranked}
    quality = {name: 100 * comparison.cells(comparison.headline)[name].value for name in by_name}
    numbers = {variant.name: number for number, variant in enumerate(comparison.variants)}
    found = []
    for scale in scales({v.name: v.recipe for v in comparison.finished if v.name in by_name and v.recipe}):
        names = list(scale.values)
        over: dict[str, Mapping[str, float | None]] = {scale.number.replace("_", " "): scale.values}
        over["samples trained on"] = {name: samples(by_name[name]) for name in names}
        over["training FLOPs"] = {name: by_name[name].cost.get("training_flops") for name in names}
        for label, values in over.items():
            known = {name: value for name, value in values.items() if value is not None}
            if len(known) < len(names) or len(set(known.values())) < len(names):
                continue
            points = sorted((value, quality[name]) for name, value in known.items())
            caption = f"{comparison.headline.label} over {label}: {', '.join(names)}"
            drawn = [Line("", numbers[names[0]], points)]
            found.append((caption, lines(drawn, name=caption, x_label=label, y_label="%", wide=True)))
    return found


def samples(variant: Variant) -> float | None:
    """Samples that all stages of the recipe read; None where a stage does not say."""
    stages = {key.split(".")[1] for key in variant.recipe if key.startswith("stages.") and key.count(".") > 1}
    total = 0.0
    for stage in stages:
        steps, batch = (variant.recipe.get(f"stages.{stage}.{key}") for key in ("steps", "data.batch_size"))
        if not isinstance(steps, int) or not isinstance(batch, int):
            return None
        total += steps * batch
    return total or None


def _means(key: str) -> bool:
    return key not in NAMING and key != "seed"


def _leaf(key: str) -> str:
    return key.rpartition(".")[2]
