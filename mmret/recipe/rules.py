"""What a single field of a recipe section must be, checked when the section is made."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING

from mmret.errors import ConfigError
from mmret.recipe.problem import Unread, did_you_mean


@dataclass(frozen=True)
class Rule:
    """A condition on a value and its words."""

    holds: Callable[[Any], bool]
    wanted: str
    names: tuple[str, ...] = ()
    """Allowed values, to name the nearest."""


def above(least: float) -> Rule:
    """A number > least."""
    return Rule(lambda value: value > least, f"> {least:g}")


def at_least(least: float) -> Rule:
    """A number >= least."""
    return Rule(lambda value: value >= least, f">= {least:g}")


def one_of(*names: str) -> Rule:
    """One of these words."""
    return Rule(names.__contains__, f"{', '.join(names[:-1])} or {names[-1]}", names)


def each_of(*names: str) -> Rule:
    """A list of these words."""
    return Rule(lambda value: {*value} <= {*names}, f"a list of {', '.join(names[:-1])} or {names[-1]}", names)


def is_count_or(word: str, least: int = 1) -> Rule:
    """A whole number >= `least`, or the word."""
    return Rule(lambda value: value == word or (isinstance(value, int) and value >= least), f">= {least} or {word}")


FRACTION = Rule(lambda value: 0 <= value <= 1, "between 0 and 1")
PROPER_FRACTION = Rule(lambda value: 0 <= value < 1, "at least 0 and below 1")
SHARE = Rule(lambda value: 0 < value <= 1, "above 0 and at most 1")
OF_TEN = Rule(lambda value: 0 <= value <= 10, "between 0 and 10")
RANGE = Rule(lambda pair: 0 < pair[0] <= pair[1] <= 1, "from above 0 to at most 1, the smaller first")
ROLES = Rule(lambda roles: bool(roles) and {*roles} <= {"query", "document"}, "query, document or both")
FRACTIONS = Rule(lambda values: all(0 <= value < 1 for value in values), "at least 0 and below 1 each")
REGEXES = Rule(lambda patterns: all(broken_regex(pattern) is None for pattern in patterns), "regular expressions")
FOLDER_NAME = Rule(
    lambda name: re.fullmatch(r"\w[\w.+-]*", name) is not None,
    "fit to name a folder (letters, digits, '_', '-', '.', '+'; no '/' or blank)",
)


def broken_regex(pattern: str) -> str | None:
    """Why a pattern does not compile; None if it does."""
    try:
        re.compile(pattern)
    except re.error as error:
        return f"{error.msg} at position {error.pos}"
    return None


def check_fields(config: Any, **rules: Rule) -> None:
    """Hold each field against its rule; null and values not yet set or not readable pass.

    Raises:
        ConfigError: a line for each field that breaks its rule, beginning with the field's name.
    """
    lines = []
    for name, rule in rules.items():
        try:
            value = getattr(config, name)
        except Unread:
            continue
        unset = value is None or (isinstance(value, str) and (value == MISSING or "${" in value))
        if not unset and not rule.holds(value):
            got = f"'{value}'" if isinstance(value, str) else value
            wrong = next((one for one in value if one not in rule.names), value) if isinstance(value, list) else value
            near = did_you_mean(str(wrong), rule.names)
            lines.append(f"{name} must be {rule.wanted}, got {got}{'.' if near else ''}{near}")
    if lines:
        raise ConfigError("\n".join(lines))
