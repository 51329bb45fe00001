"""`${other.key}` and `${oc.env:NAME,default}`: OmegaConf's grammar, with problems that name the key."""

from __future__ import annotations

import re
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import (
    GrammarParseError,
    InterpolationKeyError,
    OmegaConfBaseException,
    UnsupportedInterpolationType,
)

from mmret.recipe.problem import KeyPath, Problems, Unread, did_you_mean
from mmret.recipe.yaml_marks import Node, as_nodes, leaves


def escape(value: Any) -> Any:
    """A value that OmegaConf reads as `value`, whatever `${` its texts hold."""
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", value)
    if isinstance(value, dict):
        return {key: escape(item) for key, item in value.items()}
    return type(value)(escape(item) for item in value) if isinstance(value, (list, tuple)) else value


class Interpolation:
    """Values of a whole recipe, defaults included, that other values may refer to.

    Args:
        tree: the recipe as plain values; broken `${` are noted in `problems`.
    """

    def __init__(self, tree: Any, root: Node, problems: Problems) -> None:
        self.problems = problems
        self.broken: set[KeyPath] = set()
        self._config = OmegaConf.create(self._checked(tree, (), root))

    def _checked(self, value: Any, path: KeyPath, root: Node) -> Any:
        if isinstance(value, dict):
            return {key: self._checked(item, (*path, key), root) for key, item in value.items()}
        if isinstance(value, list):
            return [self._checked(item, (*path, index), root) for index, item in enumerate(value)]
        if isinstance(value, str) and "${" in value:
            try:
                OmegaConf.create({"value": value})
            except GrammarParseError:
                self.broken.add(path)
                text = f"broken interpolation {value!r}; the form is ${{key.path}} or ${{oc.env:NAME,default}}"
                self.problems.add(root.locate(path), path, text)
                return None
        return value

    def resolve(self, node: Node, path: KeyPath) -> Any:
        """The plain value at `path`, with what it refers to filled in.

        Raises:
            Unread: it refers to nothing; noted as a problem.
        """
        if any(place[: len(path)] == path for place in self.broken):
            raise Unread
        if not _has_interpolation(node.plain()):
            return node.plain()
        holder = self._config
        for part in path[:-1]:
            holder = holder[part]
        try:
            value = holder[path[-1]]
            return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        except OmegaConfBaseException as error:
            self.problems.add(node.origin, path, self._explain(error))
            raise Unread from None

    def expand(self, node: Node, path: KeyPath = ()) -> None:
        """Write sections that are one interpolation (`data: ${stages[0].data}`) out, in place."""
        for part, child in node.value.items() if isinstance(node.value, dict) else enumerate(node.value):
            here = (*path, part)
            if isinstance(child.value, (dict, list)):
                self.expand(child, here)
            elif _has_interpolation(child.value):
                try:
                    value = self.resolve(child, here)
                except Unread:  # said later, when the value is read
                    continue
                if isinstance(value, (dict, list)):
                    child.value = as_nodes(value, child.origin).value

    def _explain(self, error: OmegaConfBaseException) -> str:
        text = str(error).splitlines()[0]
        missing = re.search(r"Environment variable '([^']*)' not found", text)
        if missing:
            name = missing[1]
            return f"environment variable {name} is not set; set it, or give a default: ${{oc.env:{name},default}}"
        if isinstance(error, UnsupportedInterpolationType):
            return f"{text.lower()}; known: oc.env, oc.select, oc.decode"
        if isinstance(error, InterpolationKeyError):
            key = (re.search(r"'([^']*)'", text) or ["", "?"])[1]
            known = [".".join(map(str, path)) for path, _ in leaves(OmegaConf.to_container(self._config))]
            return f"refers to '{key}', which is not there.{did_you_mean(key, known)}"
        if "issing" in type(error).__name__:
            return "refers to a required value that is missing"
        if "ecursive" in text:
            return "refers to itself, directly or in a circle"
        return text


def _has_interpolation(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_interpolation, value.values()))
    if isinstance(value, list):
        return any(map(_has_interpolation, value))
    return isinstance(value, str) and "${" in value
