"""YAML text to a tree whose every value knows its line, and back. Readings that surprise people are refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from mmret.recipe.problem import KeyPath, Origin, Problems

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?(0|[1-9](_?[0-9])*)")
_HEX = re.compile(r"[-+]?0x[0-9a-fA-F]+")
# YAML 1.1 wants a dot and a signed exponent in a float; 1e-5 is one for everybody else.
_FLOAT = re.compile(r"[-+]?([0-9](_?[0-9])*\.?([0-9](_?[0-9])*)?|\.[0-9](_?[0-9])*)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]")

_WORD = re.compile(r"(yes|no|on|off)", re.IGNORECASE)
_OCTAL = re.compile(r"[-+]?0[0-9_]+")
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")


@dataclass
class Node:
    """A value and where it stands; a mapping's entry stands where its key does."""

    value: Any
    """dict[str, Node], list[Node], or a scalar."""
    origin: Origin

    def plain(self) -> Any:
        """The value without origins."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def child(self, part: str | int) -> Node | None:
        """The entry of that key or position, if there is one."""
        if isinstance(part, str):
            return self.value.get(part) if isinstance(self.value, dict) else None
        return self.value[part] if isinstance(self.value, list) and part < len(self.value) else None

    def locate(self, path: KeyPath) -> Origin:
        """Origin of the value at `path`, or of the innermost section on the way to it that is there."""
        node = self
        for part in path:
            child = node.child(part)
            if child is None:
                break
            node = child
        return node.origin


def as_nodes(value: Any, origin: Origin) -> Node:
    """A plain tree as nodes that all stand at one place."""
    if isinstance(value, dict):
        return Node({str(key): as_nodes(item, origin) for key, item in value.items()}, origin)
    return Node([as_nodes(item, origin) for item in value] if isinstance(value, list) else value, origin)


def read_scalar(text: str) -> Any:
    """What a plain (unquoted) scalar means: null, true, false, an integer, a float, or text."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text)
    if _HEX.fullmatch(text):
        return int(text, 16)
    if _FLOAT.fullmatch(text) and not _OCTAL.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", "").lower())
    return text


def trap(text: str) -> str | None:
    """Why a plain scalar should not be written so: YAML 1.1 readers take it for something else."""
    if _WORD.fullmatch(text):
        truth = "true" if text.lower() in ("yes", "on") else "false"
        return f"'{text}' is {truth} to some YAML readers and text to others: write {truth}, or quote it"
    if _OCTAL.fullmatch(text):
        return f"'{text}' is an octal number to some YAML readers: leave the leading zero out, or quote it"
    if _SEXAGESIMAL.fullmatch(text):
        return f"'{text}' is a number to base 60 to some YAML readers: quote it if text is meant"
    return None


def parse_yaml(text: str, origin: Origin, problems: Problems, path: KeyPath = ()) -> Node:
    """Text to nodes; what is wrong goes to `problems` and a stand-in takes its place.

    Args:
        origin: without a line (an override), it is every node's; with one, the nodes get their own lines.
    """
    try:
        root = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = origin if mark is None else _at(origin, mark)
        began = error.context_mark
        where = f", begun in line {began.line + 1}" if began is not None and origin.line is not None else ""
        context = f" ({error.context}{where})" if error.context else ""
        problems.add(at, path, f"this is not YAML: {error.problem}{context}")
        return Node(None, origin)
    except yaml.YAMLError as error:
        problems.add(origin, path, f"this is not YAML: {' '.join(str(error).split())}")
        return Node(None, origin)
    return Node(None, origin) if root is None else _Reader(origin, problems).read(root, path, ())


class _Reader:
    """Composed YAML to `Node`s."""

    def __init__(self, origin: Origin, problems: Problems) -> None:
        self.origin, self.problems = origin, problems

    def read(self, node: yaml.Node, path: KeyPath, inside: tuple[int, ...]) -> Node:
        at = _at(self.origin, node.start_mark)
        if id(node) in inside:
            self.problems.add(at, path, "an alias that contains itself")
            return Node(None, at)
        inside = (*inside, id(node))
        if isinstance(node, yaml.ScalarNode):
            return Node(self.scalar(node, path, at), at)
        self.refuse_tag(node, path, at)
        if isinstance(node, yaml.SequenceNode):
            return Node([self.read(item, (*path, i), inside) for i, item in enumerate(node.value)], at)
        assert isinstance(node, yaml.MappingNode)
        return Node(self.mapping(node, path, inside), at)

    def scalar(self, node: yaml.ScalarNode, path: KeyPath, at: Origin) -> Any:
        self.refuse_tag(node, path, at)
        if node.style is not None:
            return node.value
        why = trap(node.value)
        if why:
            self.problems.add(at, path, why)
            return node.value
        return read_scalar(node.value)

    def mapping(self, node: yaml.MappingNode, path: KeyPath, inside: tuple[int, ...]) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        for key_node, value_node in node.value:
            at = _at(self.origin, key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.add(at, path, "a key must be text")
                continue
            key = key_node.value
            here = (*path, key)
            if key_node.style is None and key == "<<":
                self.problems.add(at, path, "'<<' is not read here: repeat the keys, or put them into a file to extend")
                continue
            if key_node.style is None:
                why = trap(key)
                if why or not isinstance(read_scalar(key), str):
                    self.problems.add(at, here, f"as a key: {why or f'{key!r} is no text to YAML; quote it'}")
            if key in entries:
                self.problems.add(at, here, f"this key is there twice; first in {entries[key].origin.short}")
                continue
            entries[key] = Node(self.read(value_node, here, inside).value, at)
        return entries

    def refuse_tag(self, node: yaml.Node, path: KeyPath, at: Origin) -> None:
        if node.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"):
            self.problems.add(at, path, f"tags are not read here: {node.tag}")


def _at(origin: Origin, mark: yaml.Mark) -> Origin:
    return origin if origin.line is None else Origin(origin.source, mark.line + 1, mark.column + 1)


class _Dumper(yaml.SafeDumper):
    """Quotes whatever text `read_scalar` would not give back."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    plain = read_scalar(text) == text and trap(text) is None and text != "<<"
    style = '"' if _BREAKS.search(text) else (None if plain else "'")
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def dump_yaml(tree: Any) -> str:
    """A tree of dicts, lists and scalars as YAML, one value a line; `parse_yaml` gives it back."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**31)


def leaves(tree: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Values that are neither a non-empty mapping nor a list of mappings or lists, with their paths."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from leaves(value, (*path, key))
    elif isinstance(tree, (list, tuple)) and any(isinstance(item, (dict, list, tuple)) for item in tree):
        for index, item in enumerate(tree):
            yield from leaves(item, (*path, index))
    else:
        yield path, tree
