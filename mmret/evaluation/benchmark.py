"""Benchmarks: queries, the documents they search, and which of them answer; read from a spec YAML.

All queries of a benchmark search one corpus. A protocol in which each query brings candidates of its own would be a
second kind of `QuerySplit`, chosen by a key of the spec; the metrics would not change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import cast

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from mmret.data.spec import DataSpec, find_spec
from mmret.errors import ConfigError
from mmret.evaluation.metrics import build_metric
from mmret.evaluation.names import CONTROLS, nearest
from mmret.evaluation.split import Corpus, QuerySplit


@dataclass
class SplitSpec:
    """One set of queries."""

    shards: str = MISSING
    """Manifest of the query samples; their positives are the relevant documents, `answers` the answer strings."""
    title: str = ""
    """How reports call it."""
    group_by: str | None = None
    """Field of the samples by which metrics are given apart ("topic")."""


@dataclass
class BenchmarkSpec:
    """What a benchmark YAML may say. Paths are relative to its file."""

    name: str = MISSING
    corpus: str = MISSING
    """Documents table: what is searched."""
    splits: dict[str, SplitSpec] = MISSING
    description: str = ""
    license: str = ""
    images: str | None = None
    """Table of the query images that are no members of their samples."""
    metrics: list[str] = field(default_factory=lambda: ["recall@1", "recall@5", "recall@10", "mrr"])
    controls: list[str] = field(default_factory=list)
    """Of `CONTROLS`, measured on `control_splits`."""
    control_splits: list[str] = field(default_factory=list)
    gallery: str | None = None
    """Split whose questions the report shows."""
    depth: int = 100
    """Documents retrieved for each query; mrr counts what lies beyond as 0."""
    image_group: str = "country"
    """Field of the samples that says what a picture shows: the control shuffled_images takes pictures of something
    else. Samples without it are told apart by the picture itself."""


class Benchmark:
    """Queries in splits over one corpus. Files are opened when they are first needed."""

    def __init__(self, spec: BenchmarkSpec, file: str | Path, source: str):
        self.spec, self.file = spec, Path(file)
        self.source = source
        """What `load` finds it by again."""
        self.prefix = spec.name.rpartition("/")[2]
        """Begins the names of its metrics."""
        metrics = [build_metric(name) for name in spec.metrics]
        self.depth = max([spec.depth, *(metric.k for metric in metrics)])
        """Documents retrieved for each query."""
        self.answer_depth = max([0, *(metric.k for metric in metrics if metric.reads_answers)])
        """Documents whose text is searched for answers."""
        self._splits: dict[str, QuerySplit] = {}

    @classmethod
    def load(cls, name_or_path: str | Path) -> Benchmark:
        """Read a benchmark by name ("demo/flags": data_specs/benchmarks/demo/flags.yaml) or path (ends in .yaml).

        Raises:
            ConfigError: no such benchmark; an unknown field, metric, control or split; a field is missing.
        """
        is_path = Path(name_or_path).suffix in (".yaml", ".yml")
        path = find_spec(name_or_path if is_path else f"benchmarks/{name_or_path}")
        try:
            tree = OmegaConf.merge(OmegaConf.structured(BenchmarkSpec), OmegaConf.load(path))
            spec = cast(BenchmarkSpec, OmegaConf.to_object(tree))
        except (OmegaConfBaseException, YAMLError, TypeError, ValueError) as error:
            where = getattr(error, "full_key", None)
            first = (f"{where}: " if where else "") + str(error).strip().split("\n    full_key")[0]
            known = ", ".join(BenchmarkSpec.__dataclass_fields__)
            raise ConfigError(f"{path}: {first}\n  fields of a benchmark: {known}") from error
        _check(spec, path)
        return cls(spec, path, str(path.resolve()) if is_path else str(name_or_path))

    @classmethod
    def load_target(cls, target: str) -> tuple[Benchmark, list[str]]:
        """A benchmark with all its splits ("demo/flags"), or with one of them ("demo/flags/heldout").

        Raises:
            ConfigError: as `load`; or there is no such split.
        """
        try:
            benchmark = cls.load(target)
        except ConfigError:
            stem, _, split = target.rpartition("/")
            try:
                find_spec(stem if stem.endswith((".yaml", ".yml")) else f"benchmarks/{stem}")
            except ConfigError:
                stem = ""
            if not stem:
                raise
            benchmark = cls.load(stem)
            benchmark.split(split)
            return benchmark, [split]
        return benchmark, list(benchmark.spec.splits)

    @cached_property
    def corpus(self) -> Corpus:
        """What is searched."""
        return Corpus(self.data_spec("", self.spec.name))

    def split(self, name: str) -> QuerySplit:
        """The queries of a split.

        Raises:
            ConfigError: no such split; or one of its files is missing.
        """
        if name not in self.spec.splits:
            raise ConfigError(f"{self.file}: no split {name!r}; {nearest(name, self.spec.splits)}")
        if name not in self._splits:
            self._splits[name] = QuerySplit(self, name)
        return self._splits[name]

    def data_spec(self, shards: str, name: str) -> DataSpec:
        """Shards of this benchmark with its tables, as the data package reads them."""
        return DataSpec(name, shards, documents=self.spec.corpus, images=self.spec.images, file=str(self.file))


def _check(spec: BenchmarkSpec, path: Path) -> None:
    if not spec.splits:
        raise ConfigError(f"{path}: splits is empty; name at least one set of queries")
    if spec.depth < 1:
        raise ConfigError(f"{path}: depth is {spec.depth}; want at least 1")
    for name in spec.metrics:
        try:
            build_metric(name)
        except ConfigError as error:
            raise ConfigError(f"{path}: metrics: {error}") from error
    for control in spec.controls:
        if control not in CONTROLS:
            raise ConfigError(f"{path}: controls: unknown control {control!r}; {nearest(control, CONTROLS)}")
    for key, named in (("control_splits", spec.control_splits), ("gallery", [spec.gallery] if spec.gallery else [])):
        for split in named:
            if split not in spec.splits:
                raise ConfigError(f"{path}: {key}: no split {split!r}; {nearest(split, spec.splits)}")
