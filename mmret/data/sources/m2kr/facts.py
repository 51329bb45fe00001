"""What is known of M2KR as published, read from `published.yaml` beside this file."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import cast

from omegaconf import MISSING, OmegaConf

from mmret.errors import ConfigError

SPLITS = ("train", "valid", "test")


@dataclass
class Stale:
    """A copy of a dataset known to be wrong, and the signs of it."""

    what: str = MISSING
    effect: str = MISSING
    remedy: str = MISSING
    rows: dict[str, list[int]] = field(default_factory=dict)
    """Split -> row counts of such a copy."""
    bytes: dict[str, list[int]] = field(default_factory=dict)
    """Split -> sizes of its first file."""
    instruction_in_question: bool = False
    """The question column begins with the instruction."""


@dataclass
class ImageFacts:
    """Where a dataset's pictures may lie below the folder of all pictures."""

    folders: list[str] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=lambda: [""])


@dataclass
class DatasetFacts:
    """One of the ten datasets."""

    task: str = MISSING
    rows: dict[str, list[str]] = field(default_factory=dict)
    """Split -> [dataset card, docs as printed]."""
    passages: dict[str, list[str]] = field(default_factory=dict)
    images: ImageFacts | None = None
    """None: no row has a picture."""
    templates: bool = False
    """Its data spec has templates to draw instructions from."""
    extras: list[str] = field(default_factory=list)
    stale: list[Stale] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    name: str = ""
    """As in the tables' names; set when read."""

    @property
    def folder(self) -> str:
        """Name of its spec and of its folder below --out."""
        return self.name.lower()


@dataclass
class Facts:
    """The whole file."""

    table_columns: dict[str, list[str]] = MISSING
    """Columns without which a table is none of M2KR's."""
    passage_extras: list[str] = MISSING
    datasets: dict[str, DatasetFacts] = MISSING


@cache
def facts() -> Facts:
    """The published facts."""
    path = Path(__file__).with_name("published.yaml")
    found = cast(Facts, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Facts), OmegaConf.load(path))))
    for name, dataset in found.datasets.items():
        dataset.name = name
    return found


def choose_datasets(names: list[str]) -> list[DatasetFacts]:
    """The datasets of these names, whatever their case; all if none is named.

    Raises:
        ConfigError: an unknown name.
    """
    known = {dataset.folder: dataset for dataset in facts().datasets.values()}
    for name in names:
        if name.lower() not in known:
            near = get_close_matches(name.lower(), known, 1)
            hint = f". Did you mean {near[0]}?" if near else ""
            raise ConfigError(f"m2kr has no dataset {name!r}; known: {', '.join(known)}{hint}")
    return [known[name.lower()] for name in dict.fromkeys(names)] or list(known.values())


def as_printed(count: int, figure: str) -> bool:
    """Whether a printed figure ("5,120", "2.8M", "40K") is this count, rounded to the digits that it shows."""
    number = figure.replace(",", "")
    scale = {"K": 1_000, "M": 1_000_000}.get(number[-1], 1)
    number = number.rstrip("KM")
    unit = scale / 10 ** len(number.partition(".")[2])
    return abs(count - float(number) * scale) < unit if scale > 1 else count == int(number)
