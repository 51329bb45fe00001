"""`--sweep optimizer.lr=1e-4,3e-4`: a grid of settings, the best of which is picked on validation sets alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from mmret.errors import ConfigError
from mmret.recipe.overrides import parse_path


def settings_of(sweeps: Sequence[str]) -> list[dict[str, str]]:
    """Every combination of the values, `key=a,b` each; one empty setting where nothing is swept.

    Commas inside brackets belong to a value: `optimizer.betas=[0.9,0.98],[0.9,0.999]`.

    Raises:
        ConfigError: one is not of that form, or a key is there twice.
    """
    choices: dict[str, list[str]] = {}
    for text in sweeps:
        key, equals, values = text.partition("=")
        parts = _split(values)
        if not equals or parse_path(key) is None or len(parts) < 2 or not all(parts):
            raise ConfigError(f"--sweep {text}: want KEY=A,B with at least two values, as in optimizer.lr=1e-4,3e-4")
        if key in choices or len(set(parts)) < len(parts):
            raise ConfigError(f"--sweep {text}: {key if key in choices else 'a value'} is there twice")
        choices[key] = parts
    return [dict(zip(choices, values)) for values in product(*choices.values())]


def _split(text: str) -> list[str]:
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def pick(entries: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Of each swept variant the setting with the highest mean of validation metrics.

    A setting counts only if all its seeds are finished; of equal ones the first is taken.

    Args:
        entries: `variants` of results.json, each with `sweep_of`.
        keys: validation metrics.

    Returns:
        variant -> {picked: name or None, by: keys, values: {name: mean}}; values of all settings that count.
    """
    chosen: dict[str, dict[str, Any]] = {}
    for variant in dict.fromkeys(entry["sweep_of"] for entry in entries if entry["sweep_of"]):
        values = {}
        for name in dict.fromkeys(entry["name"] for entry in entries if entry["sweep_of"] == variant):
            seeds = [entry for entry in entries if entry["name"] == name]
            if all(entry["status"] == "finished" for entry in seeds):
                found = [entry["metrics"][key] for entry in seeds for key in keys]
                values[name] = sum(found) / len(found)
        best = max(values, key=lambda name: values[name], default=None)
        chosen[variant] = {"picked": best, "by": list(keys), "values": values}
    return chosen
