"""`key.path=value` and `~key.path` from the command line, applied to a recipe's tree."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from mmret.recipe.problem import KeyPath, Origin, Problems, did_you_mean, dotted
from mmret.recipe.yaml_marks import Node, parse_yaml

_PART = re.compile(r"""\.?([^.\[\]'"]+)|\[(\d+)\]|\['([^']*)'\]|\["([^"]*)"\]""")


@dataclass(frozen=True)
class Override:
    """One setting from outside the file."""

    text: str
    """`trainer.devices=2`, `stages[0].steps=5`, `stages.mapping.steps=5`, `~feature_cache`."""
    source: str = "override"
    """Who said so: the command line, or a launcher."""

    @property
    def origin(self) -> Origin:
        """How problems cite it."""
        return Origin(self.source, text=self.text)


def apply(root: Node, overrides: Iterable[Override], problems: Problems) -> None:
    """Change `root` in place, in the order given; keys are checked later, with those of the file."""
    for override in overrides:
        key, equals, value = override.text.partition("=")
        delete = key.startswith("~")
        path = parse_path(key.removeprefix("~"))
        if path is None or key[:1] in "+-" or delete == bool(equals):
            _refuse(override, problems)
        elif path[0] == "extends":
            problems.add(override.origin, path, "only a file can say what it extends")
        elif delete:
            _delete(root, path, override, problems)
        else:
            _set(root, path, parse_yaml(value, override.origin, problems, path), override, problems)


def parse_path(text: str) -> KeyPath | None:
    """`stages[0].lr_scale['a.b']` -> ("stages", 0, "lr_scale", "a.b"); None if it is no path."""
    path: list[str | int] = []
    position = 0
    while position < len(text):
        match = _PART.match(text, position)
        if match is None or (match[0].startswith(".") and not path):
            return None
        bare, index, single, double = match.groups()
        path.append(int(index) if index is not None else next(p for p in (bare, single, double) if p is not None))
        position = match.end()
    return tuple(path) if path and isinstance(path[0], str) else None


def _refuse(override: Override, problems: Problems) -> None:
    text = override.text
    if text.startswith("~"):
        how = "'~' takes a key away, so it stands without '=': ~key.path"
    elif text.startswith(("+", "-")):
        how = f"write {text.lstrip('+-')}" if "=" in text else "expected key.path=value"
    else:
        how = "expected key.path=value or ~key.path; keys with dots are quoted: lr_scale['a.b']=0"
    problems.add(override.origin, (), how)


def _set(root: Node, path: KeyPath, value: Node, override: Override, problems: Problems) -> None:
    node = root
    for depth in range(len(path)):
        part = _step(node, path, depth, override, problems)
        if part is None:
            return
        path = (*path[:depth], part, *path[depth + 1 :])
        if depth == len(path) - 1:
            if path[-2:-1] == ("lr_scale",) and part not in node.value:
                node.value = {part: value, **node.value}  # the first match wins: an added pattern is asked first
            node.value[part] = value
            return
        if isinstance(part, str):
            child = node.value.get(part)
            if child is None or child.value is None:
                node.value[part] = Node({}, override.origin)
        node = node.value[part]


def _delete(root: Node, path: KeyPath, override: Override, problems: Problems) -> None:
    node = root
    for depth in range(len(path)):
        part = _step(node, path, depth, override, problems)
        if part is None:
            return
        if isinstance(part, str) and part not in node.value:
            hint = did_you_mean(part, node.value)
            problems.add(override.origin, path[: depth + 1], f"nothing to take away: the recipe does not set it.{hint}")
            return
        if depth == len(path) - 1:
            del node.value[part]
            return
        node = node.value[part]


def _step(node: Node, path: KeyPath, depth: int, override: Override, problems: Problems) -> str | int | None:
    """The key or position that `path[depth]` means inside `node`; a stage's name means its position."""
    part, here, section = path[depth], path[: depth + 1], dotted(path[:depth])
    if isinstance(node.value, list):
        if isinstance(part, str):
            return _named(node, part, here, override, problems)
        if part < len(node.value):
            return part
        problems.add(override.origin, here, f"{section} has {len(node.value)} entries, counted from 0")
        return None
    if not isinstance(node.value, dict):
        problems.add(override.origin, here, f"{section} is {node.value!r} here, no section: give it whole")
        return None
    if isinstance(part, int):
        problems.add(override.origin, here, f"{section} is no list in this recipe: give it whole")
        return None
    return part


def _named(node: Node, name: str, here: KeyPath, override: Override, problems: Problems) -> int | None:
    named = {
        str(item.value["name"].value): index
        for index, item in enumerate(node.value)
        if isinstance(item.value, dict) and "name" in item.value
    }
    if name in named:
        return named[name]
    if name.isdigit() and int(name) < len(node.value):
        return int(name)
    known = ", ".join(named) or f"positions [0] to [{len(node.value) - 1}]"
    problems.add(override.origin, here, f"no entry of that name; known: {known}.{did_you_mean(name, named)}")
    return None
