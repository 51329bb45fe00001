"""Benchmarks: queries, and what answers them: documents of one corpus, or one of several classes. From a spec YAML.

All queries of a retrieval benchmark search one corpus or, with `candidates: own`, each the documents of it that its
sample lists.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import cast

from omegaconf import MISSING, OmegaConf

from mmret.data.classes import Classes
from mmret.data.spec import DataSpec, find_spec
from mmret.data.typed_yaml import WRONG, said
from mmret.errors import ConfigError
from mmret.evaluation.class_metrics import class_metric
from mmret.evaluation.metrics import build_metric
from mmret.evaluation.names import CONTROLS, nearest
from mmret.evaluation.split import Corpus, QuerySplit


@dataclass
class SplitSpec:
    """One set of queries."""

    shards: str = MISSING
    """Manifest of the query samples; their positives are the relevant documents, `answers` the answer strings; for
    classification their label or labels are right. Without these there is no number, only predictions."""
    title: str = ""
    """How reports call it."""
    images: str | None = None
    """Table of its images; null: the benchmark's."""
    group_by: str | None = None
    """Field of the samples by which metrics are given apart ("topic")."""


@dataclass
class BenchmarkSpec:
    """What a benchmark YAML may say. Paths are relative to its file."""

    name: str = MISSING
    corpus: str | None = None
    """Documents table: what is searched. Retrieval has one."""
    splits: dict[str, SplitSpec] = MISSING
    candidates: str = "corpus"
    """corpus: each query searches all documents. own: those whose ids its sample lists as `candidates` (MMEB)."""
    task: str = "retrieval"
    """retrieval | classification: one class of a list, chosen by a head that the model was trained with."""
    objective: str = "classify"
    """The recipe's name of the objective whose head chooses."""
    classes: str | None = None
    """Text file with one class a line, in the order of the head's outputs. Classification has one."""
    submission: str = "json"
    """Predictions are written as json, [{"question_id", "answer"}] as VQA's server takes them, or as csv (NLVR2's)."""
    description: str = ""
    license: str = ""
    images: str | None = None
    """Table of the query images that are no members of their samples."""
    metrics: list[str] = field(default_factory=lambda: ["recall@1", "recall@5", "recall@10", "mrr"])
    """Classification: accuracy, unless given; vqa_score gives the predicted answer's soft score."""
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
        self.classifies = spec.task == "classification"
        """Queries have classes, and not documents, that are right."""
        self.own_candidates = spec.candidates == "own"
        """Each query ranks a list of its own."""
        metrics = [] if self.classifies else [build_metric(name) for name in spec.metrics]
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
            given = OmegaConf.load(path)
            tree = OmegaConf.merge(OmegaConf.structured(BenchmarkSpec), given)
            spec = cast(BenchmarkSpec, OmegaConf.to_object(tree))
            if spec.task == "classification" and "metrics" not in given:
                spec.metrics = ["accuracy"]
        except WRONG as error:
            known = ", ".join(BenchmarkSpec.__dataclass_fields__)
            raise ConfigError(f"{path}: {said(error)}\n  fields of a benchmark: {known}") from error
        _check(spec, path)
        return cls(spec, path, str(path.resolve()) if is_path else str(name_or_path))

    @classmethod
    def load_target(cls, target: str) -> tuple[Benchmark, list[str]]:
        """A benchmark with all its splits ("demo/flags"), or with one of them ("demo/flags/heldout"), which is opened.

        Raises:
            ConfigError: as `load`; or there is no such split, or one of its files is missing.
        """
        benchmark, splits = cls.named(target)
        if splits != list(benchmark.spec.splits):
            benchmark.split(splits[0])
        return benchmark, splits

    @classmethod
    def named(cls, target: str) -> tuple[Benchmark, list[str]]:
        """The same, and nothing is opened.

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
            benchmark._check_split(split)
            return benchmark, [split]
        return benchmark, list(benchmark.spec.splits)

    @cached_property
    def corpus(self) -> Corpus:
        """What is searched.

        Raises:
            ConfigError: nothing is: the task is classification.
        """
        if self.classifies:
            raise ConfigError(f"{self.file}: a benchmark of task classification has no corpus to search")
        return Corpus(self.data_spec("", self.spec.name))

    @cached_property
    def classes(self) -> Classes:
        """What a head chooses from.

        Raises:
            ConfigError: the file is missing or broken.
        """
        assert self.spec.classes is not None
        return Classes.load(self.data_spec("", self.spec.name).resolve(self.spec.classes))

    def split(self, name: str) -> QuerySplit:
        """The queries of a split.

        Raises:
            ConfigError: no such split; or one of its files is missing.
        """
        self._check_split(name)
        if name not in self._splits:
            self._splits[name] = QuerySplit(self, name)
        return self._splits[name]

    def _check_split(self, name: str) -> None:
        if name not in self.spec.splits:
            raise ConfigError(f"{self.file}: no split {name!r}; {nearest(name, self.spec.splits)}")

    def data_spec(self, shards: str, name: str, images: str | None = None) -> DataSpec:
        """Shards of this benchmark with its tables, as the data package reads them."""
        spec = self.spec
        file = str(self.file)
        return DataSpec(
            name, shards, documents=spec.corpus, images=images or spec.images, classes=spec.classes, file=file
        )


def _check(spec: BenchmarkSpec, path: Path) -> None:
    if not spec.splits:
        raise ConfigError(f"{path}: splits is empty; name at least one set of queries")
    if spec.depth < 1:
        raise ConfigError(f"{path}: depth is {spec.depth}; want at least 1")
    if spec.task not in ("retrieval", "classification"):
        raise ConfigError(f"{path}: task must be retrieval or classification, got {spec.task!r}")
    if spec.candidates not in ("corpus", "own"):
        raise ConfigError(f"{path}: candidates must be corpus or own, got {spec.candidates!r}")
    if spec.submission not in ("json", "csv"):
        raise ConfigError(f"{path}: submission must be json or csv, got {spec.submission!r}")
    classifies = spec.task == "classification"
    wanted, other = ("classes", "corpus") if classifies else ("corpus", "classes")
    if getattr(spec, wanted) is None or getattr(spec, other) is not None:
        raise ConfigError(f"{path}: a benchmark of task {spec.task} names `{wanted}`, and no `{other}`")
    if classifies and spec.gallery:
        raise ConfigError(f"{path}: gallery shows documents; leave it out where task is classification")
    for name in spec.metrics:
        try:
            class_metric(name) if classifies else build_metric(name)
        except ConfigError as error:
            raise ConfigError(f"{path}: metrics: {error}") from error
        if spec.candidates == "own" and not classifies and build_metric(name).reads_answers:
            raise ConfigError(f"{path}: metrics: {name} looks for answers in a whole corpus; leave out candidates: own")
    for control in spec.controls:
        if control not in CONTROLS:
            raise ConfigError(f"{path}: controls: unknown control {control!r}; {nearest(control, CONTROLS)}")
        if control == "majority" and not classifies:
            raise ConfigError(f"{path}: controls: majority is the best constant answer of a task: classification")
    for key, named in (("control_splits", spec.control_splits), ("gallery", [spec.gallery] if spec.gallery else [])):
        for split in named:
            if split not in spec.splits:
                raise ConfigError(f"{path}: {key}: no split {split!r}; {nearest(split, spec.splits)}")
