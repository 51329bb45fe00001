"""What two resolved recipes say differently, key by key."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

NAMING = ("name", "out", "gallery")
"""Keys that say where a run lies and how it is shown, and not what it is."""
UNSET = "–"
"""Shown where a recipe has no such key."""


def flat_recipe(text: str) -> dict[str, Any]:
    """Dotted key -> value of a recipe's YAML; stages and other named entries go by their name ("stages.joint.steps").

    Lists of values, such as betas, stay whole, and so do empty sections.
    """
    return dict(_leaves(yaml.safe_load(text) or {}, ""))


def recipe_diff(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Keys that differ -> (ours, theirs) as text; in the order of the recipes, without `NAMING`.

    Args:
        ours, theirs: as `flat_recipe` gives them.
    """
    keys = [key for key in {**ours, **theirs} if key not in NAMING]
    shown = {key: (as_text(ours, key), as_text(theirs, key)) for key in keys}
    return {key: pair for key, pair in shown.items() if pair[0] != pair[1]}


def as_text(recipe: Mapping[str, Any], key: str) -> str:
    """A value as YAML writes it on one line; `UNSET` where there is none."""
    if key not in recipe:
        return UNSET
    value = recipe[key]
    if isinstance(value, str):
        return value or '""'
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False, default=str)


def _leaves(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list) and value and all(isinstance(item, dict) and "name" in item for item in value):
        for item in value:
            yield from _leaves(item, f"{prefix}.{item['name']}")
    elif prefix:
        yield prefix, value
