"""YAML (+ `extends`, overrides) -> Recipe. Every problem is collected, and all are raised at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmret.recipe import tables
from mmret.recipe.check import check_across
from mmret.recipe.extends import read_chain
from mmret.recipe.interpolation import Interpolation
from mmret.recipe.overrides import Override, apply
from mmret.recipe.problem import KeyPath, Origin, Problem, Problems, Unread, dotted, unknown
from mmret.recipe.resolved import plain
from mmret.recipe.schema import VERSION, Recipe
from mmret.recipe.sections import Builder, Classes, with_defaults
from mmret.recipe.shipped import find
from mmret.recipe.shorthand import write_out
from mmret.recipe.yaml_marks import Node, leaves


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe, and where each of its values came from."""

    recipe: Recipe
    path: Path
    root: Node
    """What files and overrides said, merged; defaults are not in it."""

    def origins(self) -> dict[str, str]:
        """Dotted key -> `file:line`, `override` (or the launcher that set it), or `default`."""
        return {dotted(path): self.origin(path).short for path, _ in leaves(plain(self.recipe))}

    def origin(self, path: KeyPath) -> Origin:
        """Where the value at `path` came from; `default` if nobody set it."""
        node = self.root
        for part in path:
            if not isinstance(node.value, (dict, list)):
                break  # a section written as one interpolation
            child = node.child(part)
            if child is None:
                return Origin("default")
            node = child
        return node.origin

    def problem(self, path: KeyPath, message: str) -> Problem:
        """A problem found later, citing the place of the value (or of the section that it would stand in)."""
        return Problem(self.root.locate(path), path, message)


def load_recipe(path: str | Path, overrides: Sequence[str | Override] = ()) -> Recipe:
    """The recipe at `path`, or of that name among the shipped ones, with defaults and interpolations resolved.

    Args:
        overrides: `key.path=value` and `~key.path`, applied in this order.

    Raises:
        RecipeError: (a ConfigError) one line for everything that is wrong: place, dotted path, what to do.
    """
    return read_recipe(path, overrides).recipe


def read_recipe(path: str | Path, overrides: Sequence[str | Override] = ()) -> LoadedRecipe:
    """`load_recipe`, keeping where values came from."""
    file = Path(path) if Path(path).is_file() else find("recipe", str(path))
    problems = Problems()
    root = read_chain(file, problems)
    _check_version(root, problems)
    if not root.value:
        problems.check()
    write_out(root)
    apply(root, [Override(item) if isinstance(item, str) else item for item in overrides], problems)
    write_out(root)
    Interpolation(with_defaults(Recipe, root.plain(), {}), root, Problems()).expand(root)
    classes = _polymorphic(root, problems)
    interpolation = Interpolation(with_defaults(Recipe, root.plain(), classes), root, problems)
    recipe = Builder(root, classes, interpolation, problems).build(Recipe, root)
    check_across(recipe, root, problems)
    problems.check()
    return LoadedRecipe(recipe, file, root)


def _check_version(root: Node, problems: Problems) -> None:
    """A newer recipe's other problems would mislead: stop at once."""
    version = root.value.get("version")
    if version is not None and isinstance(version.value, int) and version.value > VERSION:
        problems.clear()
        text = f"this mmret reads recipes up to version {VERSION}, got {version.value}: use a newer mmret"
        problems.add(version.origin, ("version",), text)
        problems.check()


def _polymorphic(root: Node, problems: Problems) -> Classes:
    """Config dataclass of each section that `name:` decides."""
    classes: dict[KeyPath, type | None] = {}
    names = Interpolation(root.plain(), root, Problems())
    model = root.value.get("model")
    if model is not None:
        classes[("model",)] = _config_of("model", model, ("model",), tables.models(), names, problems)
    for stage, path in _stages(root):
        if "model" in stage:
            classes[(*path, "model")] = classes.get(("model",))
        objectives = stage.get("objectives")
        for key, node in (objectives.value if objectives and isinstance(objectives.value, dict) else {}).items():
            here = (*path, "objectives", key)
            classes[here] = _config_of("objective", node, here, tables.objectives(), names, problems)
    return classes


def _stages(root: Node) -> Iterator[tuple[Mapping[str, Node], KeyPath]]:
    stages = root.value.get("stages")
    for index, stage in enumerate(stages.value if stages is not None and isinstance(stages.value, list) else ()):
        if isinstance(stage.value, dict):
            yield stage.value, ("stages", index)


def _config_of(
    what: str, node: Node, path: KeyPath, table: Mapping[str, Any], names: Interpolation, problems: Problems
) -> type | None:
    if not isinstance(node.value, dict):
        problems.add(node.origin, path, f"expected a section with a 'name' ({', '.join(table)}), got {node.value!r}")
        return None
    name_node = node.value.get("name")
    if name_node is None:
        problems.add(node.origin, (*path, "name"), f"required value is missing; known: {', '.join(table)}")
        return None
    try:
        name = names.resolve(name_node, (*path, "name"))
    except Unread:
        name = name_node.value
    if not isinstance(name, str) or name not in table:
        problems.add(name_node.origin, (*path, "name"), unknown(what, str(name), table))
        return None
    return table[name].Config
