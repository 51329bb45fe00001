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
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table
from rich.text import Text
from yaml import YAMLError

from mmret.data.spec import spec_roots
from mmret.errors import ConfigError, SampleError
from mmret.evaluation.benchmark import Benchmark
from mmret.evaluation.metrics import build_metric

SUITE_FILE = "_suite.yaml"


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

    @property
    def target(self) -> str:
        """What an evaluator is asked for: "m2kr/wit/test"."""
        return f"{self.benchmark}/{self.split}"

    @property
    def name(self) -> str:
        """In metrics.json: "wit/test/recall@10"."""
        return f"{self.benchmark.rpartition('/')[2]}/{self.split}/{self.metric}"


@dataclass
class PublishedRow:
    """Numbers that somebody else measured."""

    title: str = MISSING
    source: str = MISSING
    values: dict[str, float] = field(default_factory=dict)
    """Task -> percent."""


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
        except (OSError, OmegaConfBaseException, YAMLError, TypeError, ValueError) as error:
            first = str(error).strip().split("\n    full_key")[0]
            raise ConfigError(f"{path}: {first}") from error
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
        return suite

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
                len(found.corpus)
                ready.append(target)
            except (ConfigError, SampleError) as error:
                missing[target] = str(error)
        return ready, missing

    def percent(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Task -> percent, for the tasks that were measured."""
        return {key: 100 * metrics[task.name] for key, task in self.tasks.items() if task.name in metrics}


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
    columns = [*rows.values(), *(row.values for row in suite.published)]
    for title in rows:
        table.add_column(title, justify="right", style="bold")
    for row in suite.published:
        table.add_column(Text(f"published\n{row.title}"), justify="right", style="dim")
    headline = [key for key, task in suite.tasks.items() if task.headline]
    for key in headline:
        table.add_row(suite.tasks[key].title, *(_cell(column.get(key)) for column in columns))
    for title, keys in (_means(suite, headline) if suite.mean else {}).items():
        table.add_section()
        table.add_row(title, *(_cell(_mean(column, keys)) for column in columns))
    table.add_section()
    for key, task in suite.tasks.items():
        if not task.headline:
            table.add_row(Text(task.title, style="dim"), *(_cell(column.get(key)) for column in columns))
    return table


def print_suite(suite: Suite, rows: Mapping[str, Mapping[str, float]], console: Console | None = None) -> None:
    """Show the table and where its published rows come from."""
    console = console or Console()
    console.print(suite_table(suite, rows))
    sources: dict[str, list[str]] = {}
    for row in suite.published:
        sources.setdefault(row.source, []).append(row.title)
    for source, titles in sources.items():
        console.print(f"published, {', '.join(titles)}: {source}", style="dim", highlight=False)


def _means(suite: Suite, headline: list[str]) -> dict[str, list[str]]:
    """Title -> tasks: each group, then all."""
    groups: dict[str, list[str]] = {}
    for key in headline:
        if suite.tasks[key].group:
            groups.setdefault(f"mean {suite.tasks[key].group}", []).append(key)
    return {**groups, "mean of all": headline}


def _mean(values: Mapping[str, float], keys: Sequence[str]) -> float | None:
    """None where a task is missing: a mean over fewer tasks is another number."""
    found = [values[key] for key in keys if key in values]
    return sum(found) / len(found) if keys and len(found) == len(keys) else None


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
