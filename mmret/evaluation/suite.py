"""Suites: several benchmarks as one table, with the metric that each is known by, beside published rows.

A suite is a folder of benchmarks with a `_suite.yaml` in it ("m2kr": data_specs/benchmarks/m2kr/_suite.yaml).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import cast

from omegaconf import MISSING, OmegaConf
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmret.data.spec import spec_roots
from mmret.data.typed_yaml import WRONG, said
from mmret.errors import ConfigError, SampleError
from mmret.evaluation.benchmark import Benchmark
from mmret.evaluation.metrics import build_metric
from mmret.evaluation.names import RERANKED

SUITE_FILE = "_suite.yaml"
ALL = "all"
"""The group of all headline tasks."""


@dataclass
class Task:
    """One line of the table."""

    benchmark: str = MISSING
    metric: str = MISSING
    title: str = MISSING
    split: str = "test"
    headline: bool = True
    """Counts among the suite's tasks (and in its mean); else it stands below them."""
    group: str = ""
    """Tasks of one group are averaged apart too (MMEB's meta-tasks)."""
    groups: list[str] = field(default_factory=list)
    """Further groups that it belongs to (MMEB's IND and OOD)."""

    @property
    def target(self) -> str:
        """What an evaluator is asked for: "m2kr/wit/test"."""
        return f"{self.benchmark}/{self.split}"

    def measured_as(self, variant: str | None = None) -> str:
        """Its name in metrics.json: "wit/test/recall@10", "coco_ir/test/reranked/recall@1"."""
        return "/".join(filter(None, (self.benchmark.rpartition("/")[2], self.split, variant, self.metric)))


@dataclass
class PublishedRow:
    """Numbers that somebody else measured."""

    title: str = MISSING
    source: str = MISSING
    values: dict[str, float] = field(default_factory=dict)
    """Task -> percent."""
    means: dict[str, float] = field(default_factory=dict)
    """Group, or "all", -> percent: means that were published, some without the values behind them."""


@dataclass
class Suite:
    """What a suite's YAML may say."""

    name: str = MISSING
    tasks: dict[str, Task] = MISSING
    description: str = ""
    published: list[PublishedRow] = field(default_factory=list)
    mean: bool = False
    """Show the mean over the headline tasks, and over each group."""

    @classmethod
    def find(cls, name: str) -> Suite | None:
        """The suite of this name; None: it is none."""
        for root in spec_roots():
            path = root / "benchmarks" / name / SUITE_FILE
            if path.is_file():
                return cls.read(path)
        return None

    @classmethod
    def read(cls, path: str | Path) -> Suite:
        """Read a suite's file.

        Raises:
            ConfigError: an unknown field or metric, or a published value for a task that is not there.
        """
        try:
            tree = OmegaConf.merge(OmegaConf.structured(cls), OmegaConf.load(path))
            suite = cast(Suite, OmegaConf.to_object(tree))
        except (OSError, *WRONG) as error:
            raise ConfigError(f"{path}: {said(error)}") from error
        for key, task in suite.tasks.items():
            try:
                build_metric(task.metric)
            except ConfigError as error:
                raise ConfigError(f"{path}: tasks.{key}: {error}") from error
        for row in suite.published:
            for key in row.values:
                if key not in suite.tasks:
                    near = get_close_matches(key, suite.tasks, 1)
                    hint = f". Did you mean {near[0]}?" if near else ""
                    raise ConfigError(f"{path}: published row {row.title!r} names no task {key!r}{hint}")
            for key in row.means:
                if key not in suite.members:
                    known = ", ".join(suite.members)
                    raise ConfigError(f"{path}: published row {row.title!r} names no group {key!r}; known: {known}")
        return suite

    @property
    def members(self) -> dict[str, list[str]]:
        """Group -> its headline tasks: first the tasks' own groups, then the further ones, then "all"."""
        headline = {key: task for key, task in self.tasks.items() if task.headline}
        found: dict[str, list[str]] = {}
        for groups in (lambda task: [task.group], lambda task: task.groups):
            for key, task in headline.items():
                for group in filter(None, groups(task)):
                    found.setdefault(group, []).append(key)
        return {**found, ALL: list(headline)}

    @property
    def targets(self) -> list[str]:
        """What has to be evaluated, each once."""
        return list(dict.fromkeys(task.target for task in self.tasks.values()))

    def ready(self) -> tuple[list[str], dict[str, str]]:
        """The targets whose data lies here, and for the others what is missing."""
        ready, missing = [], {}
        for target in self.targets:
            benchmark, _, split = target.rpartition("/")
            try:
                found = Benchmark.load(benchmark)
                found.split(split)
                len(found.classes if found.classifies else found.corpus)
                ready.append(target)
            except (ConfigError, SampleError) as error:
                missing[target] = str(error)
        return ready, missing

    def percent(self, metrics: Mapping[str, float], variant: str | None = None) -> dict[str, float]:
        """Task -> percent, for the tasks that were measured; `variant`: as they were re-ranked, or under a control."""
        names = {key: task.measured_as(variant) for key, task in self.tasks.items()}
        return {key: 100 * metrics[name] for key, name in names.items() if name in metrics}

    def means(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Mean of the headline tasks ("coco/mean"), also re-ranked ("coco/reranked/mean"), and of each group
        ("mmeb/VQA/mean"), where all were measured."""
        found = {}
        for variant in (None, RERANKED) if self.mean else ():
            measured = self.percent(metrics, variant)
            for group, keys in self.members.items():
                mean = mean_of(measured, keys)
                if mean is not None:
                    name = (self.name, variant, None if group == ALL else group, "mean")
                    found["/".join(filter(None, name))] = mean / 100
        return found


@dataclass(frozen=True)
class Expanded:
    """What a user's list of targets comes to."""

    targets: list[str]
    """For an evaluator."""
    suites: list[Suite]
    """Those that were named."""
    missing: dict[str, str]
    """Targets of suites that are left out -> what is not here."""


def expand_targets(targets: Sequence[str]) -> Expanded:
    """Replace each suite's name by those of its targets whose data is here.

    Raises:
        ConfigError: a suite of which no data is here.
    """
    found = Expanded([], [], {})
    for target in targets:
        suite = Suite.find(target)
        if suite is None:
            found.targets.append(target)
            continue
        ready, missing = suite.ready()
        if not ready:
            raise ConfigError(
                f"{target}: no data of its {len(suite.targets)} benchmarks is here: {missing.popitem()[1]}"
            )
        found.suites.append(suite)
        found.targets.extend(one for one in ready if one not in found.targets)
        found.missing.update(missing)
    return found


def suite_table(suite: Suite, rows: Mapping[str, Mapping[str, float]]) -> Table:
    """Tasks down, own rows and then the published ones across.

    Args:
        suite: which tasks.
        rows: title -> task -> percent (`Suite.percent`) of what was measured here.
    """
    table = Table(title=f"{suite.name}  (%)", title_justify="left", title_style="bold")
    table.add_column("")
    published = [row for row in suite.published if row.values]
    columns = [*rows.values(), *(row.values for row in published)]
    for title in rows:
        table.add_column(title, justify="right", style="bold")
    for row in published:
        table.add_column(Text(f"published\n{row.title}"), justify="right", style="dim")
    headline = [key for key, task in suite.tasks.items() if task.headline]
    for key in headline:
        table.add_row(suite.tasks[key].title, *(cell(column.get(key)) for column in columns))
    for group, keys in (suite.members if suite.mean else {}).items():
        table.add_section()
        title = "mean of all" if group == ALL else f"mean {group}"
        table.add_row(title, *(cell(mean_of(column, keys)) for column in columns))
    table.add_section()
    for key, task in suite.tasks.items():
        if not task.headline:
            table.add_row(Text(task.title, style="dim"), *(cell(column.get(key)) for column in columns))
    return table


def print_suite(suite: Suite, rows: Mapping[str, Mapping[str, float]], console: Console | None = None) -> None:
    """Show the table, the means beside those that were published alone, and where published rows come from."""
    console = console or Console()
    console.print(suite_table(suite, rows))
    if any(row.means for row in suite.published):
        console.print(means_table(suite, rows))
    sources: dict[str, list[str]] = {}
    for row in suite.published:
        sources.setdefault(row.source, []).append(row.title)
    for source, titles in sources.items():
        console.print(f"published, {', '.join(titles)}: {source}", style="dim", highlight=False)


def means_table(suite: Suite, rows: Mapping[str, Mapping[str, float]]) -> Table:
    """Groups across; down own rows and then published ones, which may have been published as means alone."""
    table = Table(title=f"{suite.name}, means  (%)", title_justify="left", title_style="bold")
    table.add_column("")
    for group in suite.members:
        table.add_column(group, justify="right")
    for title, values in rows.items():
        means = (cell(mean_of(values, keys)) for keys in suite.members.values())
        table.add_row(Text(title.replace("\n", ", "), style="bold"), *means)
    table.add_section()
    for row in suite.published:
        means = (cell(row.means.get(group, mean_of(row.values, keys))) for group, keys in suite.members.items())
        table.add_row(Text(row.title, style="dim"), *means)
    return table


def mean_of(values: Mapping[str, float], keys: Sequence[str]) -> float | None:
    """None where a task is missing: a mean over fewer tasks is another number."""
    found = [values[key] for key in keys if key in values]
    return sum(found) / len(found) if keys and len(found) == len(keys) else None


def cell(value: float | None) -> str:
    """A percentage as it stands in a table."""
    return "" if value is None else f"{value:.1f}"
