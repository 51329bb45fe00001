"""Data specs: the YAML files that name a collection's shards and tables, and what each of its rows must have."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import MISSING

import mmret
from mmret.data.layout import LAYOUTS
from mmret.data.negative_captions import RULES
from mmret.data.remote.address import is_remote
from mmret.data.remote.cache import RemoteCache
from mmret.data.typed_yaml import read_typed
from mmret.errors import ConfigError

if TYPE_CHECKING:
    from mmret.data.shards import Manifest
    from mmret.data.source import Source

REMOTE = ("cache", "ranges")
FIELDS = tuple(
    f"{side}.{name}"
    for side, names in {
        "query": ("text", "images", "video", "instruction"),
        "positives": ("text", "images", "video", "id"),
        "negatives": ("text", "images", "video", "id"),
    }.items()
    for name in names
)
"""What `required` may list; a requirement on positives or negatives holds for each of them."""


@dataclass
class DataSpec:
    """One collection of samples. Paths are relative to the spec's file; URLs and `pipe:` commands do, too."""

    name: str = MISSING
    """Also the name of the source in batches and logs."""
    shards: str = MISSING
    """The manifest that `write_shards` wrote."""
    description: str = ""
    license: str = ""
    layout: str = "samples"
    """samples: each has our JSON. pairs: a picture beside its caption, as img2dataset writes them (`<key>.jpg` with
    `<key>.txt`, "caption" in `<key>.json`, or `<key>.cls`): the picture asks, its captions answer."""
    documents: str | None = None
    """Table of documents by id."""
    images: str | None = None
    """Table of images by id."""
    classes: str | None = None
    """Text file with one class a line, in the order of their numbers: what the rows' labels may be."""
    negatives: str | None = None
    """Table of negatives that `mmret mine` found, added to each row's own."""
    recaptions: str | None = None
    """Table of captions that `mmret data recaption` wrote; how often they stand in is the recipe's (`synthetic`)."""
    instructions: list[str] = field(default_factory=list)
    """One is drawn for each row that brings none."""
    required: list[str] = field(default_factory=list)
    """Of `FIELDS`; a row that lacks one is broken."""
    negative_captions: list[str] = field(default_factory=list)
    """Rules (`mmret.data.negative_captions`) that make further negatives of each row's captions. English."""
    remote: str = "cache"
    """How shards that lie elsewhere are read. cache: fetched whole, into a folder of bounded size. ranges: sample by
    sample, with requests for parts; what has none (commands, .tar.gz) is fetched."""
    file: str = ""
    """Where the spec was read from, set by `load`; for a spec made in code, any file of the folder of its paths."""

    @classmethod
    def load(cls, name_or_path: str | Path) -> DataSpec:
        """Read a spec by name ("demo/flags") or path (ends in .yaml).

        Raises:
            ConfigError: no such spec, or it has an unknown field, lacks one, or asks for what cannot be.
        """
        return read_typed(cls, find_spec(name_or_path), "a data spec")

    def __post_init__(self) -> None:
        if self.remote not in REMOTE:
            raise ConfigError(f"remote: {self.remote!r} is none; {_nearest(self.remote, REMOTE)}")
        if self.layout not in LAYOUTS:
            raise ConfigError(f"layout: {self.layout!r} is none; {_nearest(self.layout, LAYOUTS)}")
        for text in self.instructions:
            if not isinstance(text, str) or not text.strip():
                raise ConfigError(f"instructions: {text!r} is no text; want a list of non-empty texts")
        for rule in self.negative_captions:
            if rule not in RULES:
                raise ConfigError(f"negative_captions: unknown rule {rule!r}; {_nearest(rule, tuple(RULES))}")
        for wanted in self.required:
            if wanted not in FIELDS:
                raise ConfigError(f"required: unknown field {wanted!r}; {_nearest(wanted, FIELDS)}")

    def resolve(self, path: str) -> Path:
        """A path of this spec, as seen from here; of what lies elsewhere a copy, fetched now unless it is current.

        Raises:
            RemoteError: it cannot be fetched.
        """
        return RemoteCache.default().file(path) if is_remote(path) else Path(self.file).parent / path

    def manifest(self) -> Manifest:
        """Read the manifest of its shards.

        Raises:
            ConfigError: there is none (the text has the comment at the spec's head, which says how it is made), or it
                is broken.
            RemoteError: it cannot be fetched.
        """
        from mmret.data.shards import Manifest

        path = self.shards if is_remote(self.shards) else self.resolve(self.shards)
        head = "" if isinstance(path, str) or path.is_file() else _head(self.file)
        if head:
            raise ConfigError(f"{path}: no such manifest; {self.file} says: {head}")
        return Manifest.load(path)

    def open(self) -> Source:
        """Open shards and tables, and check that all files are there and of the sizes that the manifest says.

        Raises:
            ConfigError: the manifest or a table is missing.
            SampleError: a shard or index is missing, truncated, or does not match the manifest.
            RemoteError: a manifest or table lies elsewhere and cannot be fetched. (Shards are fetched when read.)
        """
        from mmret.data.source import Source

        return Source(self)


def spec_roots() -> list[Path]:
    """Where specs are looked for by name, in this order: here, beside the package (a checkout), inside it (a wheel)."""
    package = Path(mmret.__file__).parent
    return [Path.cwd() / "data_specs", package.parent / "data_specs", package / "_shipped" / "data_specs"]


def find_spec(name_or_path: str | Path) -> Path:
    """The YAML file of a spec's name; a path that ends in .yaml is taken as it is. Benchmarks are "benchmarks/...".

    Raises:
        ConfigError: there is none; the text names the nearest known ones.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ConfigError(f"{path}: no such data spec file")
        return path
    roots = spec_roots()
    for root in roots:
        candidate = root / f"{name_or_path}.yaml"
        if candidate.is_file():
            return candidate
    known = dict.fromkeys(
        file.relative_to(root).with_suffix("").as_posix() for root in roots for file in sorted(root.rglob("*.yaml"))
    )
    asked = str(name_or_path).startswith("benchmarks/")
    others = ("curations/",) if asked else ("benchmarks/", "curations/")
    names = [name for name in known if name.startswith("benchmarks/") >= asked and not name.startswith(others)]
    looked = ", ".join(str(root) for root in dict.fromkeys(roots) if root.is_dir()) or "no data_specs folder exists"
    raise ConfigError(f"no data spec {str(name_or_path)!r}; {_nearest(str(name_or_path), names)} (looked in: {looked})")


def _head(file: str) -> str:
    """The comment that a file begins with, as one line."""
    path = Path(file)
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    comment = takewhile(lambda line: line.startswith("#"), lines)
    return " ".join(" ".join(line.lstrip("#").split()) for line in comment)


def _nearest(name: str, known: tuple[str, ...] | list[str]) -> str:
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"known: {', '.join(known) or 'none'}" + (f". Did you mean {close[0]}?" if close else "")
