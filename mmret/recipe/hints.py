"""What the fields of a config dataclass may hold, and how to say it to a reader."""

from __future__ import annotations

import types
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from omegaconf import MISSING


@cache
def hints_of(cls: type) -> dict[str, Any]:
    """Field -> type, in the order of the class."""
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls) if field.init}


def default_of(cls: type, key: str) -> Any:
    """A field's default, made anew; `MISSING` where it has none."""
    field = next(field for field in fields(cls) if field.name == key)
    if field.default_factory is not NO_DEFAULT:
        return field.default_factory()
    return MISSING if field.default is NO_DEFAULT else field.default


def without_none(hint: Any) -> tuple[Any, bool]:
    """`X | None` -> (X, True)."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint, False
    rest = tuple(arg for arg in get_args(hint) if arg is not type(None))
    return (rest[0] if len(rest) == 1 else Union[rest]), len(rest) < len(get_args(hint))  # noqa: UP007


def section_of(hint: Any) -> type | None:
    """The dataclass that a field holds, if it holds one."""
    inner, _ = without_none(hint)
    return inner if isinstance(inner, type) and is_dataclass(inner) else None


def item_of(hint: Any) -> Any:
    """Type of a list's items or a mapping's values; None for anything else."""
    inner, _ = without_none(hint)
    if get_origin(inner) is list:
        return get_args(inner)[0]
    return get_args(inner)[1] if get_origin(inner) is dict else None


def readable(hint: Any) -> str:
    """`int | None` -> "a whole number or null"."""
    inner, optional = without_none(hint)
    return f"{_readable(inner)} or null" if optional else _readable(inner)


def _readable(hint: Any) -> str:
    kind, arguments = get_origin(hint), get_args(hint)
    if kind in (Union, types.UnionType):
        return " or ".join(map(_readable, arguments))
    if kind is Literal:
        return " or ".join(map(str, arguments))
    if kind is tuple:
        return f"a list of {len(arguments)}: {', '.join(map(_readable, arguments))}"
    if kind in (list, dict):
        container = "a list" if kind is list else "a mapping (key: value)"
        return container if item_of(hint) is Any else f"{container} of {_PLURAL.get(item_of(hint), 'sections')}"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return " or ".join(hint.__members__)
    return _NAMES.get(hint, getattr(hint, "__name__", str(hint)))


_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_PLURAL = {int: "whole numbers", float: "numbers", bool: "true or false", str: "text"}


def show(value: Any) -> str:
    """A value as a message cites it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "a mapping"
    if isinstance(value, float) and value.is_integer():
        return f"{value} (as a whole number: {int(value)})"
    return repr(value)
