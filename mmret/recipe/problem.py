"""What is wrong with a recipe: where, at which key, what to do. Collected, then raised all at once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from mmret.errors import ConfigError

KeyPath = tuple[str | int, ...]
"""A place in a recipe: keys and list positions from the root."""


@dataclass(frozen=True)
class Origin:
    """Where a value came from: a place in a file, or a `key=value` of the command line."""

    source: str
    """File as shown to the user, or "override", or the launcher that set it."""
    line: int | None = None
    """From 1; None: not from a file."""
    column: int | None = None
    text: str = ""
    """The override as written."""

    def __str__(self) -> str:
        return f"{self.source} {self.text}" if self.line is None else f"{self.source}:{self.line}:{self.column}"

    @property
    def short(self) -> str:
        """`file:line`, or the kind of override."""
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True)
class Problem:
    """One line of the report."""

    origin: Origin
    path: KeyPath
    message: str

    def __str__(self) -> str:
        return "  ".join(part for part in (str(self.origin), dotted(self.path), self.message) if part)


class RecipeError(ConfigError):
    """Everything that is wrong with a recipe; the text has one line for each problem."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        unique = dict.fromkeys(problems)
        self.problems = tuple(
            sorted(unique, key=lambda p: (p.origin.line is None, p.origin.source, p.origin.line or 0))
        )
        super().__init__("\n".join(map(str, self.problems)))


class Problems(list[Problem]):
    """A list of problems that can turn into the error."""

    def add(self, origin: Origin, path: KeyPath, message: str) -> None:
        """Note one."""
        self.append(Problem(origin, path, message))

    def check(self) -> None:
        """Raise if there are any.

        Raises:
            RecipeError: with all of them.
        """
        if self:
            raise RecipeError(self)


def dotted(path: KeyPath) -> str:
    """`("stages", 0, "lr_scale", "a.b")` -> `stages[0].lr_scale['a.b']`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[\w/+@:|-]+", part):
            text += f".{part}" if text else part
        else:
            text += f"['{part}']"
    return text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` with the nearest known word; empty where none is near."""
    by_lower = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), by_lower, n=1, cutoff=0.5)
    return f" Did you mean '{by_lower[near[0]]}'?" if near else ""


def unknown(what: str, word: str, known: Iterable[str]) -> str:
    """What to say of a word that is not in a table: the known ones, and the nearest of them."""
    known = sorted(known)
    return f"unknown {what} '{word}'; known: {', '.join(known) or 'none'}.{did_you_mean(word, known)}"


class Unread(Exception):
    """A value was asked for that could not be read; its problem is noted already."""
