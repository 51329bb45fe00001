"""Where recipes, data specs and benchmarks are found by name: the working folder first, then what mmret ships."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mmret.errors import ConfigError
from mmret.recipe.problem import did_you_mean

Kind = Literal["recipe", "bench", "data spec", "benchmark", "curation"]

_FOLDERS: dict[Kind, str] = {
    "recipe": "recipes",
    "bench": "recipes/bench",
    "data spec": "data_specs",
    "benchmark": "data_specs/benchmarks",
    "curation": "data_specs/curations",
}
_OTHERS: dict[Kind, tuple[str, ...]] = {"recipe": ("bench",), "data spec": ("benchmarks", "curations")}
"""Folders inside that hold files of another kind."""
_PACKAGE = Path(__file__).resolve().parent.parent


def roots(kind: Kind) -> list[Path]:
    """Folders that hold files of this kind, the first to be searched first."""
    folder = _FOLDERS[kind]
    places = [Path.cwd() / folder, _PACKAGE.parent / folder, _PACKAGE / "_shipped" / folder]
    return list(dict.fromkeys(place for place in places if place.is_dir()))


def names(kind: Kind) -> dict[str, Path]:
    """Every name of this kind and its file; names that begin with `_` are for extending only and left out."""
    found: dict[str, Path] = {}
    for root in roots(kind):
        for path in sorted(root.rglob("*.yaml")):
            parts = path.relative_to(root).with_suffix("").parts
            hidden = any(part.startswith("_") for part in parts)
            if not hidden and parts[0] not in _OTHERS.get(kind, ()):
                found.setdefault("/".join(parts), path)
    return found


def find(kind: Kind, name: str, near: Path | None = None) -> Path:
    """The file of that name; what ends in `.yaml` is a path, seen from `near` (default: the working folder).

    Raises:
        ConfigError: there is none; the text has the nearest name.
    """
    path = Path(name).expanduser()
    if near is not None and (near / path).is_file():
        return near / path
    if path.suffix in (".yaml", ".yml"):
        if near is None and path.is_file():
            return path
        beside = sorted(p.name for p in ((near or Path()) / path).parent.glob("*.yaml"))
        raise ConfigError(f"no {kind} file {name}{f' in {near}' if near else ''}.{did_you_mean(path.name, beside)}")
    for root in roots(kind):
        if (root / f"{name}.yaml").is_file():
            return root / f"{name}.yaml"
    known = names(kind)
    hint = did_you_mean(name, known)
    where = ", ".join(map(shown, roots(kind))) or f"a folder {_FOLDERS[kind]}"
    raise ConfigError(f"no {kind} named '{name}' in {where}.{hint}")


def shown(path: Path) -> str:
    """A path as short as it can be said from the working folder."""
    path = path if path.is_absolute() else Path.cwd() / path
    try:
        return str(path.resolve().relative_to(Path.cwd().resolve()))
    except ValueError:
        return str(path)
