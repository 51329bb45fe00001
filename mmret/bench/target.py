"""What is measured, by the names that metrics.json gives it: the primary metric, and what a sweep may look at."""

from __future__ import annotations

from collections.abc import Sequence

from mmret.bench.config import Bench
from mmret.errors import ConfigError
from mmret.evaluation.benchmark import Benchmark
from mmret.evaluation.names import nearest


def splits_of(targets: Sequence[str]) -> dict[tuple[str, str], list[str]]:
    """(benchmark's name, split) -> names of its metrics, of "demo/emoji" or "demo/emoji/validation".

    Raises:
        ConfigError: no such benchmark or split.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for target in targets:
        benchmark, splits = Benchmark.named(target)
        for split in splits:
            found[benchmark.spec.name, split] = list(benchmark.spec.metrics)
    return found


def metric_key(benchmark: str, split: str, metric: str) -> str:
    """As metrics.json has it: "emoji/unseen_style/recall@1"."""
    return f"{benchmark.rpartition('/')[2]}/{split}/{metric}"


def primary_key(bench: Bench, targets: Sequence[str]) -> str:
    """The primary metric as metrics.json has it.

    Args:
        targets: what the variants are measured on.

    Raises:
        ConfigError: it is not among what they are measured on.
    """
    known = {}
    for (benchmark, split), metrics in splits_of(targets).items():
        for metric in metrics:
            known[f"{benchmark}/{split}/{metric}"] = metric_key(benchmark, split, metric)
    if bench.primary in known:
        return known[bench.primary]
    if bench.primary in known.values():
        return bench.primary
    raise ConfigError(f"primary: {bench.primary} is not measured; {nearest(bench.primary, known)}")


def validation_keys(bench: Bench) -> list[str]:
    """What a sweep chooses by: the primary's metric on each validation split.

    Raises:
        ConfigError: there are none, one of them is a test split as well, or it has not that metric.
    """
    if not bench.evaluation.validation:
        raise ConfigError(
            "--sweep wants sets to choose by that are no test sets: evaluation: {validation: [benchmark/split]}"
        )
    test, metric = splits_of(bench.evaluation.benchmarks), bench.primary.rpartition("/")[2]
    keys = []
    for (benchmark, split), metrics in splits_of(bench.evaluation.validation).items():
        if (benchmark, split) in test:
            raise ConfigError(
                f"evaluation.validation: {benchmark}/{split} is among evaluation.benchmarks too; a sweep that chooses "
                "by a test set says nothing about it. Name single splits in one of the two lists"
            )
        if metric not in metrics:
            raise ConfigError(f"evaluation.validation: {benchmark}/{split} has no {metric}; {nearest(metric, metrics)}")
        keys.append(metric_key(benchmark, split, metric))
    return keys
