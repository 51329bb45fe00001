"""A bench file -> Bench: sizes, overrides, and the same care for places and near names as recipes get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmret.bench.config import FULL, TINY, Bench
from mmret.recipe.interpolation import Interpolation
from mmret.recipe.overrides import Override, apply
from mmret.recipe.problem import Origin, Problems
from mmret.recipe.sections import Builder, with_defaults
from mmret.recipe.shipped import find, names, shown
from mmret.recipe.yaml_marks import Node, parse_yaml


@dataclass(frozen=True)
class LoadedBench:
    """A bench and its file, beside which relative recipes lie."""

    bench: Bench
    path: Path


def is_bench(path: str | Path) -> bool:
    """Whether a file is a bench and no recipe: it has `variants` and no `stages`; False for what cannot be read."""
    file = Path(path)
    if not file.is_file():
        return str(path).startswith("bench/") and str(path).removeprefix("bench/") in names("bench")
    try:
        root = parse_yaml(file.read_text("utf-8"), Origin(str(file), 1, 1), Problems())
    except (OSError, UnicodeDecodeError):
        return False
    return isinstance(root.value, dict) and "variants" in root.value and "stages" not in root.value


def read_bench(path: str | Path, overrides: Sequence[str] = ()) -> LoadedBench:
    """The bench at `path`, or of that name among the shipped ones ("architectures").

    Args:
        overrides: `size=tiny`, `key.path=value` and `~key.path`, applied to what that size says.

    Raises:
        RecipeError: (a ConfigError) one line for everything that is wrong: place, dotted path, what to do.
    """
    file = Path(path) if Path(path).is_file() else find("bench", str(path).removeprefix("bench/"))
    problems = Problems()
    top = Origin(shown(file), 1, 1)
    root = parse_yaml(file.read_text("utf-8"), top, problems)
    if not isinstance(root.value, dict):
        problems.add(top, (), "holds no mapping; a bench is `key: value` lines: name, variants, primary, ...")
        problems.check()
    root.origin = top
    given = [Override(text) for text in overrides]
    apply(root, [one for one in given if one.text.startswith("size=")], problems)
    _resize(root, problems)
    apply(root, given, problems)
    interpolation = Interpolation(with_defaults(Bench, root.plain(), {}), root, problems)
    bench = Builder(root, {}, interpolation, problems).build(Bench, root)
    problems.check()
    return LoadedBench(bench, file)


def _resize(root: Node, problems: Problems) -> None:
    """Lay the `tiny` sections over what they stand in, or take them away; in place."""
    size = root.value.get("size")
    tiny = size is not None and size.value == TINY
    variants = root.value.get("variants")
    named = variants.value if variants is not None and isinstance(variants.value, dict) else {}
    sections = {("variants", name): node for name, node in named.items()}
    found = False
    for path, section in {(): root, **sections}.items():
        if section.value is None:
            section.value = {}
        small = section.value.pop("tiny", None) if isinstance(section.value, dict) else None
        if small is not None and not isinstance(small.value, dict):
            problems.add(small.origin, (*path, "tiny"), "expected a section: what `size: tiny` puts in place")
            continue
        found = found or small is not None
        if tiny and isinstance(section.value, dict):
            # A variant's recipe and overrides belong together: those of the other size say nothing of this one.
            section.value = {**(section.value if path == () else {}), **(small.value if small else {})}
    if tiny and not found and size is not None and size.origin.line is None:
        problems.add(size.origin, ("size",), f"this bench has no tiny sections: it comes in one size ({FULL})")
