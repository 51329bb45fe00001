"""A recipe file and the files it extends, merged: mappings key by key, everything else replaced."""

from __future__ import annotations

from pathlib import Path

from mmret.errors import ConfigError
from mmret.recipe.problem import Origin, Problems
from mmret.recipe.shipped import find, shown
from mmret.recipe.yaml_marks import Node, parse_yaml


def read_chain(path: Path, problems: Problems, children: tuple[Path, ...] = ()) -> Node:
    """The tree of `path` laid over that of the file it extends, and so on.

    Args:
        children: the files that led here, to notice a circle.
    """
    top = Origin(shown(path), 1, 1)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problems.add(top, (), f"cannot be read: {error}")
        return Node({}, top)
    before = len(problems)
    root = parse_yaml(text, top, problems)
    if not isinstance(root.value, dict):
        if len(problems) == before:
            what = "is empty" if root.value is None else "holds no mapping"
            problems.add(top, (), f"{what}; a recipe is `key: value` lines (to begin with one: mmret cp NAME my.yaml)")
        return Node({}, top)
    root.origin = top
    parent = root.value.pop("extends", None)
    if parent is None:
        return root
    if not isinstance(parent.value, str):
        problems.add(parent.origin, ("extends",), "expected the name of one file or shipped recipe")
        return root
    try:
        parent_path = find("recipe", parent.value, near=path.parent)
    except ConfigError as error:
        problems.add(parent.origin, ("extends",), str(error))
        return root
    chain = (*children, path)
    if any(parent_path.resolve() == file.resolve() for file in chain):
        circle = " -> ".join(shown(file) for file in (*chain, parent_path))
        problems.add(parent.origin, ("extends",), f"goes in a circle: {circle}")
        return root
    return merge(read_chain(parent_path, problems, chain), root)


def merge(under: Node, over: Node) -> Node:
    """`over` laid over `under`. A model section that names another architecture replaces the one below it whole."""
    merged = _merge(under, over)
    below, above = (side.value.get("model") for side in (under, over))
    if below is not None and above is not None and None not in (_name(below), _name(above)):
        merged.value["model"] = above if _name(below) != _name(above) else merged.value["model"]
    return merged


def _merge(under: Node, over: Node) -> Node:
    if not isinstance(under.value, dict) or not isinstance(over.value, dict):
        return over
    entries = dict(under.value)
    for key, node in over.value.items():
        entries[key] = _merge(entries[key], node) if key in entries else node
    return Node(entries, over.origin)


def _name(section: Node) -> object:
    return section.value["name"].value if isinstance(section.value, dict) and "name" in section.value else None
