"""A curation's YAML: which source, which filters in which order, where to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, OmegaConf

from mmret.data.curate.filter import Filter, Setup
from mmret.data.typed_yaml import WRONG, read_typed, said
from mmret.errors import ConfigError
from mmret.recipe.problem import did_you_mean, unknown
from mmret.recipe.shipped import find


@dataclass
class Curation:
    """What to choose from, and how."""

    name: str = MISSING
    """Of the new collection: its spec's name in recipes and logs."""
    source: str = MISSING
    """A data spec by name or file, or a manifest (.json); seen from the working folder."""
    out: str = MISSING
    """Folder to write; seen from the working folder."""
    filters: list[dict[str, Any]] = field(default_factory=list)
    """In this order; each is one name with its settings: {length: {min_words: 3}}."""
    description: str = ""
    """Of the new collection; default: the source's, and how many samples are left."""
    seed: int = 0
    """Of everything that is drawn."""
    file: str = ""
    """Where it was read from, set by `load`."""

    @classmethod
    def load(cls, name_or_path: str | Path) -> Curation:
        """Read a file, or a shipped curation by name.

        Raises:
            ConfigError: it is missing, has an unknown field or lacks one.
        """
        curation = read_typed(cls, find("curation", str(name_or_path)), "a curation")
        if not curation.filters:
            raise ConfigError(f"{curation.file}: filters: want at least one")
        return curation

    def open(self, known: Mapping[str, type[Filter]], device: str | None = None) -> list[Filter]:
        """The filters, in order.

        Args:
            known: name -> filter.

        Raises:
            ConfigError: one is unknown, or its settings cannot be; the text has all that are wrong.
            EnvironmentProblem: a filter needs a package that is not installed.
        """
        setup = Setup(Path(self.file).parent, self.seed, device)
        opened, wrong = [], []
        for number, entry in enumerate(self.filters):
            try:
                opened.append(_open(entry, known, setup))
            except ConfigError as error:
                wrong.append(f"{self.file}: filters[{number}]{error}")
        if wrong:
            raise ConfigError("\n".join(wrong))
        return opened


def _open(entry: Mapping[str, Any], known: Mapping[str, type[Filter]], setup: Setup) -> Filter:
    if len(entry) != 1:
        raise ConfigError(f": {dict(entry)} names {len(entry)} filters; want one name with its settings")
    ((name, settings),) = entry.items()
    if name not in known:
        raise ConfigError(f": {unknown('filter', str(name), known)}")
    cls = known[name]
    try:
        tree = OmegaConf.create({} if settings is None else settings)
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls.Config), tree))
        return cls(config, setup)
    except ConfigError as error:
        raise ConfigError(f".{name}: {error}") from error
    except WRONG as error:
        fields = cls.Config.__dataclass_fields__
        given = settings if isinstance(settings, Mapping) else {}
        extra = next((key for key in given if key not in fields), None)
        what = f"unknown field '{extra}'.{did_you_mean(str(extra), fields)}" if extra else said(error)
        raise ConfigError(f".{name}: {what}\n  fields of {name}: {', '.join(fields)}") from error


def settings(filter: Filter) -> dict[str, Any]:
    """A filter's settings, for reports."""
    return asdict(filter.config)
