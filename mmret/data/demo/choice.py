"""Random choices that depend on nothing but names: no generator, so no Python version can change them."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")


def shuffled(items: Iterable[T], salt: str) -> list[T]:
    """The items in an order that is random to the eye and fixed by `salt` and their text."""
    return sorted(items, key=lambda item: blake2b(f"{salt}\0{item}".encode(), digest_size=16).digest())


def pick(items: Iterable[T], number: int, salt: str) -> list[T]:
    """At most `number` of the items, chosen by `salt`."""
    return shuffled(items, salt)[:number]
