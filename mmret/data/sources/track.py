"""How a build shows that it moves, without knowing what shows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol


class Track(Protocol):
    """Shows progress while items pass; `mmret.training.progress.track` is one."""

    def __call__(self, items: Iterable[Any], what: str, total: int | None = None) -> Iterator[Any]: ...


def untracked(items: Iterable[Any], what: str, total: int | None = None) -> Iterator[Any]:
    """No progress shown."""
    yield from items
