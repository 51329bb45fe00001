"""Encode, search, judge: the one way from a model and a benchmark to numbers, in training and after it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmret.errors import ConfigError
from mmret.evaluation.benchmark import Benchmark
from mmret.evaluation.classification import by_majority, untrained_heads
from mmret.evaluation.controls import QUERY_CONTROLS, control_contents
from mmret.evaluation.encode import Settings, Track, untracked
from mmret.evaluation.measure import ModelEvaluator, by_chance
from mmret.evaluation.rerank import Reranker, check_rerank
from mmret.evaluation.result import Evaluation
from mmret.models import Retriever, load
from mmret.objectives.store import load_objectives
from mmret.recipe.rerank import RerankConfig
from mmret.types import Content, Role

logger = logging.getLogger(__name__)


class Evaluator:
    """Measures models on benchmarks: a callback calls it on the live model, `mmret evaluate` on a checkpoint.

    With torch.distributed initialised, all ranks must make the same calls: they share encoding and search, and get the
    same result. A call leaves the model's train/eval modes, its device and all random states as they were.

    Args:
        targets: benchmarks ("demo/flags", or the path of a YAML: all splits) or single splits ("demo/flags/heldout").
        out: where `Evaluation.write` puts the files of each call; None: nowhere.
        batch_size, device, num_workers, track: see `Settings`.

    Raises:
        ConfigError: an unknown benchmark or split, or two benchmarks whose names end alike.
    """

    def __init__(
        self,
        targets: Sequence[str],
        *,
        out: str | Path | None = None,
        batch_size: int = 64,
        device: torch.device | str | None = None,
        num_workers: int = 0,
        track: Track = untracked,
    ) -> None:
        self.benchmarks = _choose(targets)
        """Each benchmark with the splits that are measured of it."""
        self.out, self.settings = out, Settings(batch_size, device, num_workers, track)

    def __call__(
        self,
        model: Retriever,
        *,
        objectives: nn.ModuleDict | None = None,
        controls: bool = False,
        untrained: Retriever | Callable[[], Retriever] | None = None,
    ) -> dict[str, float]:
        """Metrics by name ("flags/heldout/recall@1"); see `measure`."""
        return self.measure(model, objectives=objectives, controls=controls, untrained=untrained).metrics

    def measure(
        self,
        model: Retriever,
        *,
        objectives: nn.ModuleDict | None = None,
        controls: bool = False,
        untrained: Retriever | Callable[[], Retriever] | None = None,
        rerank: RerankConfig | None = None,
    ) -> Evaluation:
        """Evaluate the model as it is now; each corpus is encoded once and serves all splits and controls.

        Args:
            objectives: the heads that the model was trained with, by their names in the recipe; None: it has none.
            controls: measure the controls that the benchmarks name too.
            untrained: for the control of that name: the same model before training, or what builds it. None: left out.
            rerank: measure each split a second time, its best documents sorted anew by an itm head of `objectives`.

        Raises:
            ConfigError: a control does not fit the queries of a split, re-ranking fits not the model or a split, or
                `objectives` has not the head that a classification asks for.
            SampleError: a sample is broken, or names a document that the corpus does not have.
        """
        trained, before = ModelEvaluator(model, self.settings, objectives), None
        reranker = None if rerank is None else Reranker(model, trained.objectives, rerank, self.settings)
        self.check_rerank(rerank)
        results, seconds = [], {}
        for benchmark, splits in self.benchmarks:
            start = time.monotonic()
            for split in splits:
                results.append(trained(benchmark, split))
                if reranker is not None and not benchmark.classifies:
                    results.append(reranker(results[-1]))
                for control in benchmark.spec.controls if controls and split in benchmark.spec.control_splits else ():
                    if control == "chance":
                        results.append(by_chance(benchmark, split))
                    elif control == "majority":
                        results.append(by_majority(benchmark.split(split)))
                    elif control != "untrained":
                        results.append(trained(benchmark, split, control))
                    elif untrained is None:
                        logger.info("%s/%s: untrained left out, no untrained model given", benchmark.prefix, split)
                    else:
                        if before is None:
                            fresh = untrained if isinstance(untrained, Retriever) else untrained()
                            before = ModelEvaluator(fresh, self.settings, untrained_heads(objectives, fresh))
                        results.append(before(benchmark, split, control))
            seconds[benchmark.spec.name] = time.monotonic() - start
        evaluation = Evaluation(tuple(results), seconds)
        if self.out is not None:
            evaluation.write(self.out)
        return evaluation

    def check(self) -> None:
        """Read all queries and what is known of them, so that faults show before a training and not after it.

        Raises:
            ConfigError: a file is missing, or a control does not fit the queries of a split.
            SampleError: a sample is broken, or names a document that the corpus does not have.
        """
        for benchmark, splits in self.benchmarks:
            for split in splits:
                wanted = benchmark.spec.controls if split in benchmark.spec.control_splits else ()
                for control in (None, *(control for control in wanted if control in QUERY_CONTROLS)):
                    control_contents(benchmark.split(split), control)

    def check_rerank(self, rerank: RerankConfig | None) -> None:
        """See that every split can be re-ranked, if that is wanted.

        Raises:
            ConfigError: as `rerank.check_rerank`.
        """
        if rerank is not None:
            for benchmark, splits in self.benchmarks:
                for split in () if benchmark.classifies else splits:
                    check_rerank(benchmark, split, rerank)

    def leave_out_headless(self, objectives: nn.ModuleDict, retrieves: bool = True) -> None:
        """Forget the classifications whose head is not among `objectives`: an earlier stage has not got it yet.

        Args:
            retrieves: False: the stage's model has no retrieval heads either.
        """
        headless = [
            benchmark.spec.name
            for benchmark, _ in self.benchmarks
            if (benchmark.spec.objective not in objectives if benchmark.classifies else not retrieves)
        ]
        self.benchmarks = [(b, splits) for b, splits in self.benchmarks if b.spec.name not in headless]
        if headless:
            logger.info("not measured in this stage, which has not their heads: %s", ", ".join(headless))

    def wants(self, control: str) -> bool:
        """Whether any split that is measured names the control."""
        return any(
            control in benchmark.spec.controls and split in benchmark.spec.control_splits
            for benchmark, splits in self.benchmarks
            for split in splits
        )

    def contents(self) -> Iterator[tuple[Role, Content]]:
        """Everything that is encoded, controls included, each document once: what a feature cache has to hold."""
        for benchmark, splits in self.benchmarks:
            for split in splits:
                queries = benchmark.split(split)
                kinds = [control_contents(queries, None)]
                if split in benchmark.spec.control_splits and "image_only" in benchmark.spec.controls:
                    # It alone brings a text of its own; the other controls recombine what stands in the queries.
                    kinds.append(control_contents(queries, "image_only"))
                for content in kinds:
                    for row in range(len(queries)):
                        yield "query", content(row)
            for row in range(0 if benchmark.classifies else len(benchmark.corpus)):
                yield "document", benchmark.corpus.content(row)


def evaluate_checkpoint(
    folder: str | Path,
    evaluator: Evaluator,
    *,
    controls: bool = True,
    untrained: Retriever | Callable[[], Retriever] | None = None,
    rerank: RerankConfig | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Evaluation:
    """`Evaluator.measure` on a model that `mmret.models.load` opens, with its heads: what `mmret evaluate` does.

    Args:
        overrides: settings of the model to change while loading.

    Raises:
        CheckpointError: the folder holds no model, or an incomplete one.
    """
    model, inner = load(folder, **(overrides or {})), Path(folder) / "model"
    objectives = load_objectives(inner if inner.is_dir() else folder, model)  # a stage's folder holds its model's
    return evaluator.measure(model, objectives=objectives, controls=controls, untrained=untrained, rerank=rerank)


def _choose(targets: Sequence[str]) -> list[tuple[Benchmark, list[str]]]:
    """Each benchmark once, with the splits wanted of it in its own order."""
    chosen: dict[str, tuple[Benchmark, set[str]]] = {}
    for target in targets:
        benchmark, splits = Benchmark.load_target(target)
        known = chosen.setdefault(benchmark.prefix, (benchmark, set()))
        if known[0].spec.name != benchmark.spec.name:
            raise ConfigError(
                f"benchmarks {known[0].spec.name} and {benchmark.spec.name} would both write metrics named "
                f"{benchmark.prefix}/...; evaluate them one after the other, into two folders"
            )
        known[1].update(splits)
    return [
        (benchmark, [name for name in benchmark.spec.splits if name in wanted]) for benchmark, wanted in chosen.values()
    ]
