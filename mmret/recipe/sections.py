"""A tree of nodes against the dataclasses: unknown keys, types, missing values; then the objects themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass, make_dataclass
from functools import cache
from typing import Any, get_args, get_origin

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mmret.errors import ConfigError
from mmret.recipe.hints import default_of, hints_of, item_of, readable, section_of, show, without_none
from mmret.recipe.interpolation import Interpolation, escape
from mmret.recipe.problem import KeyPath, Problems, Unread, did_you_mean
from mmret.recipe.yaml_marks import Node, as_nodes

Classes = Mapping[KeyPath, "type | None"]
"""Dataclass of each polymorphic section, by place; None: its name is unknown, so that nothing can be said of it."""


class Partial:
    """What is there of a section that could not be read whole; to ask for the rest raises `Unread`."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        raise Unread(name)


class Builder:
    """Turns nodes into dataclass instances; what cannot be read is noted in `problems`, a `Partial` stands for it."""

    def __init__(self, root: Node, classes: Classes, interpolation: Interpolation, problems: Problems) -> None:
        self.root, self.classes = root, classes
        self.interpolation, self.problems = interpolation, problems

    def build(self, cls: type, node: Node, path: KeyPath = ()) -> Any:
        """An instance of `cls`, or a `Partial`."""
        values, before = {}, len(self.problems)
        for key, hint in self._known(cls, node, path):
            try:
                values[key] = self._value(cls, key, hint, node.value.get(key), (*path, key))
            except Unread:
                continue
        complete = len(self.problems) == before and len(values) == len(hints_of(cls))
        try:
            if complete:
                return cls(**values)
            # What is there can still break the section's own rules; all problems are wanted at once.
            getattr(cls, "__post_init__", lambda _: None)(Partial(values))
        except Unread:
            pass
        except ConfigError as error:
            for line in str(error).splitlines():
                values.pop(self._note_own(line, values, path), None)
        return Partial(values)

    def build_partial(self, cls: type, node: Node, path: KeyPath) -> dict[str, Any]:
        """Only the keys that are given, checked against `cls`, as a plain mapping (`stages[i].model`)."""
        values = {}
        for key, hint in self._known(cls, node, path):
            child, here, section = node.value.get(key), (*path, key), section_of(hint)
            if child is None:
                continue
            try:
                if section is not None and isinstance(child.value, dict):
                    values[key] = self.build_partial(section, child, here)
                else:
                    values[key] = self._leaf(hint, self.interpolation.resolve(child, here), here)
            except Unread:
                continue
        return values

    def _known(self, cls: type, node: Node, path: KeyPath) -> Iterator[tuple[str, Any]]:
        """Fields of `cls`; notes what else the node holds."""
        if not isinstance(node.value, dict):
            got = self.interpolation.resolve(node, path)
            self.problems.add(node.origin, path, f"expected a section (key: value lines), got {show(got)}")
            return
        for key, child in node.value.items():
            if key not in hints_of(cls):
                self.problems.add(child.origin, (*path, key), f"unknown key.{_nearest_key(cls, key)}")
        yield from hints_of(cls).items()

    def _note_own(self, line: str, values: Mapping[str, Any], path: KeyPath) -> str:
        """A complaint of the section's `__post_init__`; gives the field it is about, by convention its first word."""
        word, _, rest = line.partition(" ")
        field = word.rstrip(":").rpartition(".")[2]
        here = (*path, field) if field in values else path
        cited = here != path and (word.endswith(":") or rest.startswith(("must ", "is ", "has ", "wants ")))
        self.problems.add(self.root.locate(here), here, rest if cited else line)
        return field

    def _value(self, cls: type, key: str, hint: Any, node: Node | None, path: KeyPath) -> Any:
        section = self.classes.get(path, section_of(hint))
        if section is None and path in self.classes:
            raise Unread
        default = default_of(cls, key)
        if node is None and (default is None or section is None):
            return self._default(hint, default, path)
        if path[:1] + path[2:] == ("stages", "model"):
            given = Node({}, self.root.locate(path)) if node is None else node
            return self.build_partial(section, given, path) if section else {}
        if section is not None:
            at = self.root.locate(path)
            below = as_nodes(_as_tree(default), at) if is_dataclass(default) else Node({}, at)
            given = below if node is None else node
            if given.value is None and without_none(hint)[1]:
                return None
            if isinstance(given.value, dict):
                given = Node({**below.value, **given.value}, given.origin)
            elif node is None and default == MISSING:
                return self._missing(path)
            return self.build(section, given, path)
        assert node is not None
        if section_of(item_of(hint)) or any(place[:-1] == path for place in self.classes):
            return self._collection(hint, node, path)
        return self._leaf(hint, self.interpolation.resolve(node, path), path)

    def _default(self, hint: Any, default: Any, path: KeyPath) -> Any:
        if isinstance(default, str) and default == MISSING:
            self._missing(path)
        if isinstance(default, str) and "${" in default:
            value = self.interpolation.resolve(Node(default, self.root.locate(path)), path)
            return self._leaf(hint, value, path)
        return default

    def _collection(self, hint: Any, node: Node, path: KeyPath) -> Any:
        inner, _ = without_none(hint)
        section = section_of(item_of(hint))
        if not isinstance(node.value, get_origin(inner) or inner):
            got = self.interpolation.resolve(node, path)
            self.problems.add(node.origin, path, f"expected {readable(hint)}, got {show(got)}")
            raise Unread
        if isinstance(node.value, list):
            assert section is not None
            return [self.build(section, child, (*path, index)) for index, child in enumerate(node.value)]
        built = {}
        for key, child in node.value.items():
            cls = self.classes.get((*path, key), section)
            built[key] = Partial({}) if cls is None else self.build(cls, child, (*path, key))
        return built

    def _missing(self, path: KeyPath) -> None:
        self.problems.add(self.root.locate(path), path, "required value is missing")
        raise Unread

    def _leaf(self, hint: Any, value: Any, path: KeyPath) -> Any:
        """The value in the field's type; a mapping replaces the field's default whole."""
        if isinstance(value, str) and value == MISSING:
            self._missing(path)
        inner, _ = without_none(hint)
        kind, arguments = get_origin(inner), get_args(inner)
        # Each entry by itself: OmegaConf stops at the first wrong one, and takes a list for a number inside a mapping.
        if kind is tuple and isinstance(value, (list, tuple)) and len(value) == len(arguments):
            return tuple(self._entries(dict(enumerate(value)), dict(enumerate(arguments)), path).values())
        if kind is list and isinstance(value, list):
            return list(
                self._entries(dict(enumerate(value)), dict.fromkeys(range(len(value)), arguments[0]), path).values()
            )
        if kind is dict and isinstance(value, dict):
            return self._entries(value, dict.fromkeys(value, arguments[1]), path)
        try:
            return _convert(hint, value)
        except (OmegaConfBaseException, ValueError, TypeError):
            self.problems.add(self.root.locate(path), path, f"expected {readable(hint)}, got {show(value)}")
            raise Unread from None

    def _entries(self, values: dict[Any, Any], hints: dict[Any, Any], path: KeyPath) -> dict[Any, Any]:
        entries = {}
        for place, value in values.items():
            try:
                entries[place] = value if hints[place] is Any else self._leaf(hints[place], value, (*path, place))
            except Unread:
                continue
        if len(entries) < len(values):
            raise Unread
        return entries


def with_defaults(cls: type, value: Any, classes: Classes, path: KeyPath = ()) -> Any:
    """A plain section with its defaults laid under, for interpolations to refer to."""
    if not isinstance(value, dict):
        return value
    full = dict(value)
    for key, hint in hints_of(cls).items():
        here, default = (*path, key), default_of(cls, key)
        section = classes.get(here, section_of(hint))
        below = _as_tree(default)
        if key not in value:
            full[key] = below
        elif section is not None and here[:1] + here[2:] != ("stages", "model"):
            laid = {**below, **value[key]} if isinstance(below, dict) and isinstance(value[key], dict) else value[key]
            full[key] = with_defaults(section, laid, classes, here)
        elif (item := section_of(item_of(hint))) and isinstance(value[key], list):
            full[key] = [with_defaults(item, child, classes, (*here, i)) for i, child in enumerate(value[key])]
        elif isinstance(value[key], dict):
            for name, child in value[key].items():
                entry = classes.get((*here, name), item)
                full[key] = {**full[key], name: with_defaults(entry, child, classes, (*here, name)) if entry else child}
    return full


def _as_tree(default: Any) -> Any:
    return asdict(default) if is_dataclass(default) and not isinstance(default, type) else default


def _convert(hint: Any, value: Any) -> Any:
    """`value` as OmegaConf reads it into a field of that type."""
    if type(value) is hint:
        return value
    merged = OmegaConf.merge(_field(hint), {"value": escape(value)})
    assert isinstance(merged, DictConfig)
    converted = merged["value"]
    return OmegaConf.to_container(converted, resolve=True) if OmegaConf.is_config(converted) else converted


@cache
def _field(hint: Any) -> Any:
    return OmegaConf.structured(make_dataclass("Field", [("value", hint, MISSING)]))


def _nearest_key(cls: type, key: str) -> str:
    """The key's nearest name in this section, or the same name one section further in."""
    hint = did_you_mean(key, hints_of(cls))
    if hint:
        return hint
    for name, inner in hints_of(cls).items():
        section = section_of(inner)
        if section is not None and key in hints_of(section):
            return f" Did you mean '{name}.{key}'?"
    return f" Known here: {', '.join(hints_of(cls))}."
