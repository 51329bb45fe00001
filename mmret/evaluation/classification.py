"""One model's head on one split of a classification benchmark; the best constant answer and the lot beside it."""

# B rows of a batch, Q queries, C classes

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mmret.errors import ConfigError
from mmret.evaluation.benchmark import Benchmark
from mmret.evaluation.class_metrics import expected_of, values_of
from mmret.evaluation.controls import control_contents
from mmret.evaluation.encode import Settings, evaluating, read
from mmret.evaluation.names import nearest
from mmret.evaluation.result import SplitResult
from mmret.evaluation.split import QuerySplit
from mmret.models.retriever import Retriever
from mmret.objectives import Classify, Step
from mmret.ops import rank_and_world
from mmret.types import Batch

_HEAD_SEED = 0


def classify(
    model: Retriever, objectives: nn.ModuleDict, split: QuerySplit, control: str | None, settings: Settings
) -> SplitResult:
    """Predict a class for each query, as it is or under a control, and score it; ranks share the queries.

    Raises:
        ConfigError: `objectives` has no such head, or one of another number of classes.
    """
    head = head_of(objectives, split.benchmark)
    content = control_contents(split, control)
    predicted = torch.zeros(len(split), dtype=torch.int64)
    with evaluating(nn.ModuleList([model, head]), settings.device) as device:
        batches = read(
            model,
            content,
            range(len(split)),
            "query",
            "classify",
            batch_size=settings.batch_size,
            num_workers=settings.num_workers,
            track=settings.track,
        )
        for rows, inputs in batches:
            predicted[rows] = head.logits(Step(model, Batch(inputs, None, 0))).argmax(1).cpu()
        if rank_and_world()[1] > 1:
            shared = predicted.to(device)  # each row is one rank's, 0 with the others
            dist.all_reduce(shared)
            predicted = shared.cpu()
    return _result(split, control, predicted)


def by_majority(split: QuerySplit) -> SplitResult:
    """What the best constant answer reaches: the class with the highest sum of scores over the split itself."""
    sums = torch.zeros(len(split.benchmark.classes), dtype=torch.float64)
    for query in split.queries:
        for number, score in query.target.scores.items() if query.target else ():
            sums[number] += score
    return _result(split, "majority", torch.full((len(split),), int(sums.argmax())))


def class_by_chance(split: QuerySplit) -> SplitResult:
    """What a class drawn by lot is expected to reach."""
    targets = [query.target for query in split.queries]
    values = {name: expected_of(name, targets) for name in split.benchmark.spec.metrics}
    return SplitResult(split, "chance", _means(split, values, groups=False), values)


def head_of(objectives: nn.ModuleDict, benchmark: Benchmark) -> Classify:
    """The head that a benchmark asks for.

    Raises:
        ConfigError: there is none of its name, it does not classify, or its number of classes is another.
    """
    name = benchmark.spec.objective
    if name not in objectives:
        known = nearest(name, [key for key, objective in objectives.items() if isinstance(objective, Classify)])
        raise ConfigError(
            f"{benchmark.file}: this model has no head {name!r} ({known}); train a stage with objectives: "
            f"{{{name}: {{name: classify, num_classes: {len(benchmark.classes)}}}}}, or name another `objective`"
        )
    head = objectives[name]
    if not isinstance(head, Classify):
        raise ConfigError(f"{benchmark.file}: objective {name!r} of this model is {type(head).__name__}, not classify")
    if head.config.num_classes != len(benchmark.classes):
        raise ConfigError(
            f"{benchmark.file}: {benchmark.classes.file} has {len(benchmark.classes):,} classes, the model's head "
            f"{name!r} {head.config.num_classes:,}; the answer vocabulary must be the one it was trained with"
        )
    return head


def untrained_heads(objectives: nn.ModuleDict | None, model: Retriever) -> nn.ModuleDict:
    """Fresh heads like those that classify, for the untrained model."""
    heads = {name: head for name, head in (objectives or {}).items() if isinstance(head, Classify)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_HEAD_SEED)
        return nn.ModuleDict({name: type(head).for_model(head.config, model) for name, head in heads.items()})


def _result(split: QuerySplit, control: str | None, predicted: Tensor) -> SplitResult:
    targets = [query.target for query in split.queries]
    values = {name: values_of(name, targets, predicted.tolist()) for name in split.benchmark.spec.metrics}
    return SplitResult(split, control, _means(split, values, control is None), values, predictions=predicted)


def _means(split: QuerySplit, values: dict[str, Tensor], groups: bool) -> dict[str, float]:
    """Over all queries and, if wanted, of each group; what has no value is left out."""
    labels = [query.group for query in split.queries]
    members = {"": torch.ones(len(labels), dtype=torch.bool)}
    if groups and split.group_by:
        for label in sorted({label for label in labels if label is not None}):
            members[f"{split.group_by}={label}/"] = torch.tensor([one == label for one in labels])
    means = {
        group + name: float(value[rows].nanmean()) for group, rows in members.items() for name, value in values.items()
    }
    return {name: value for name, value in means.items() if value == value}
