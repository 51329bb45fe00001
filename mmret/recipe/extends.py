"""A recipe file and the files it extends, merged: mappings key by key, stages by name, everything else replaced."""

from __future__ import annotations

from pathlib import Path

from mmret.errors import ConfigError
from mmret.recipe.problem import Origin, Problems, did_you_mean
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
    return merge(read_chain(parent_path, problems, chain), root, problems)


def merge(under: Node, over: Node, problems: Problems) -> Node:
    """`over` laid over `under`. A model section that names another architecture replaces the one below it whole.

    `stages` as a mapping changes the stages of the same names: `joint: {steps: 5}`; `joint: null` leaves one out.
    """
    merged = _merge(under, over)
    stages = [side.value.get("stages") for side in (under, over)]
    if stages[0] is not None and stages[1] is not None and isinstance(stages[1].value, dict):
        merged.value["stages"] = _merge_stages(stages[0], stages[1], problems)
    below, above = (side.value.get("model") for side in (under, over))
    if below is not None and above is not None and None not in (_name(below), _name(above)):
        merged.value["model"] = above if _name(below) != _name(above) else merged.value["model"]
    return merged


def _merge(under: Node, over: Node) -> Node:
    if not isinstance(under.value, dict) or not isinstance(over.value, dict):
        return over
    entries = dict(under.value)
    for key, node in over.value.items():
        # The first pattern of lr_scale that fits decides: one written after the parent's would often be none.
        entries[key] = _merge(entries[key], node) if key in entries and key != "lr_scale" else node
    return Node(entries, over.origin)


def _merge_stages(under: Node, over: Node, problems: Problems) -> Node:
    """The parent's list of stages, each with what `over` says under its name."""
    if not isinstance(under.value, list):
        return over
    names = [_name(stage) for stage in under.value]
    for name, node in over.value.items():
        if name not in names:
            known = [str(one) for one in names]
            text = f"no stage of that name below; known: {', '.join(known)}.{did_you_mean(name, known)}"
            problems.add(node.origin, ("stages", name), text)
    changes = {name: node for name, node in over.value.items() if name in names}
    stages = [
        _merge(stage, changes[name]) if name in changes else stage  # pyright: ignore[reportArgumentType]
        for name, stage in zip(names, under.value)
        if name not in changes or changes[name].value is not None
    ]
    return Node(stages, under.origin)


def _name(section: Node) -> object:
    return section.value["name"].value if isinstance(section.value, dict) and "name" in section.value else None
