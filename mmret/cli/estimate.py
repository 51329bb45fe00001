"""What a stage costs on one rank: parameters by module and group, samples, and an estimate of memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import nn

from mmret.cli.inventory import missing_tokenizers, missing_weights
from mmret.cli.trace import bytes_kept
from mmret.errors import ConfigError
from mmret.models import MODELS, Retriever
from mmret.models.backbones.text import TINY
from mmret.models.depth import blocks
from mmret.objectives import OBJECTIVES
from mmret.recipe import LoadedRecipe, Problem, Recipe, Stage, stage_model_config
from mmret.training.optim import lr_scale_of, scale_of, scale_of_parameters
from mmret.types import Processor

FORMULA = (
    "memory of one rank, an estimate: weights 4 bytes a parameter (+2 with mixed precision: the half copy of a pass); "
    "gradients 4 and AdamW 8 a trained one (+4 gradient buckets with several ranks); with fsdp2 a share of these "
    "and what is gathered at once: two blocks and all outside of blocks, with grad_cache everything; "
    "activations: what the backward "
    "pass keeps of one query and one document of full length, traced without computing, times their numbers in one "
    "pass; scores 12 bytes a pair. Not counted: kernels' workspace, fragmentation, evaluation, the data loader"
)

OBJECTIVE = "objectives."
"""Begins what an objective finds wrong with the model."""


@dataclass
class Count:
    """Parameters of a module or an lr_scale pattern."""

    name: str
    total: int = 0
    trained: int = 0


@dataclass
class Group(Count):
    """The parameters that a pattern decides."""

    scale: float = 1.0


@dataclass
class Memory:
    """Bytes of one rank."""

    weights: int
    gradients: int
    optimizer: int
    scores: int
    activations: int | None = None
    """None: not known, see `why`."""
    why: str = ""

    @property
    def total(self) -> int:
        """Everything that is known."""
        return self.weights + self.gradients + self.optimizer + self.scores + (self.activations or 0)


@dataclass
class StageCost:
    """One stage."""

    name: str
    steps: int
    batch: int
    ranks: int | None
    """None: devices are counted at the start ("auto")."""
    rows: int
    """Queries of one rank in one pass."""
    scores: tuple[int, int]
    """Rows and columns of the score matrix."""
    modules: list[Count] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    """Per lr_scale pattern, the parameters that it decides."""
    memory: Memory | None = None
    unknown: str = ""
    """Why the model could not be laid out."""

    @property
    def total(self) -> int:
        """All parameters."""
        return sum(module.total for module in self.modules)

    @property
    def trained(self) -> int:
        """Those that train."""
        return sum(module.trained for module in self.modules)


def estimate(loaded: LoadedRecipe, index: int) -> tuple[StageCost, list[Problem]]:
    """Cost of stage `index`, and what is wrong with it that only the model's parameters can tell."""
    recipe, stage = loaded.recipe, loaded.recipe.stages[index]
    trainer, data = recipe.trainer, stage.data
    ranks = None if trainer.devices == "auto" else int(trainer.devices) * trainer.num_nodes
    rows = data.batch_size // ((ranks or 1) * trainer.accumulate)
    scores = (rows, rows * (ranks or 1) * data.documents_per_query)
    cost = StageCost(stage.name, stage.steps, data.batch_size, ranks, rows, scores)
    try:
        module = _laid_out(recipe.model.name, stage, stage_model_config(recipe, stage))
    except ConfigError as error:
        cost.unknown = f"unknown: {error}"
        absent = any(name in str(error) for name in (*missing_weights(recipe.model), *missing_tokenizers(stage)))
        return cost, [] if absent else [_model_problem(loaded, index, line) for line in str(error).splitlines()]
    parameters = dict(module.named_parameters())
    try:
        stage = replace(stage, train=None, lr_scale=lr_scale_of(stage, cast(Retriever, module["model"])))
    except ConfigError as error:
        return cost, [loaded.problem(("stages", index, "train"), str(error).partition(": ")[2])]
    problems = _pattern_problems(loaded, index, list(parameters), stage)
    for name, parameter in parameters.items():
        parameter.requires_grad_((scale_of(name, stage.lr_scale) or 0) > 0)
    cost.modules, cost.groups = _by_module(parameters), _by_pattern(parameters, stage)
    cost.memory = _memory(cost, module, trainer.precision)
    if trainer.strategy == "fsdp2":
        _shard(cost.memory, cost, module, everything=stage.grad_cache is not None)
    _add_activations(cost.memory, recipe, stage, module, cost)
    return cost, problems


def _laid_out(name: str, stage: Stage, config: Any) -> nn.ModuleDict:
    """Model and objectives without memory for their parameters, under the names that training gives them."""
    model = MODELS[name].skeleton(config)
    objectives = {}
    for key, own in stage.active_objectives.items():
        try:
            with torch.device("meta"):
                objectives[key] = OBJECTIVES[own.name].for_model(own, model)
        except ConfigError as error:
            lines = str(error).splitlines()
            raise ConfigError("\n".join(f"{OBJECTIVE}{key}: {line}" for line in lines)) from error
    return nn.ModuleDict({"model": model, "objectives": nn.ModuleDict(objectives)})


def _model_problem(loaded: LoadedRecipe, index: int, line: str) -> Problem:
    """A complaint of an objective, or of the model, at the key that it begins with: the stage's, where that has it."""
    if line.startswith(OBJECTIVE):
        name, _, line = line.removeprefix(OBJECTIVE).partition(": ")
        field = line.split(":")[0].rpartition(".")[2]
        path = ("stages", index, "objectives", name)
        known = hasattr(loaded.recipe.stages[index].objectives[name], field)
        return loaded.problem((*path, field) if known else path, line)
    key = line.split(" ")[0].rstrip(":").rpartition(".")[2]
    section = ("stages", index, "model") if key in loaded.recipe.stages[index].model else ("model",)
    return loaded.problem((*section, key) if hasattr(loaded.recipe.model, key) else section, line)


def _pattern_problems(loaded: LoadedRecipe, index: int, names: list[str], stage: Stage) -> list[Problem]:
    try:
        scale_of_parameters(names, stage.lr_scale)
    except ConfigError as error:
        path = ("stages", index, "lr_scale")
        found = []
        for line in str(error).splitlines():
            pattern = next((pattern for pattern in stage.lr_scale if f"'{pattern}'" in line), None)
            found.append(loaded.problem(path if pattern is None else (*path, pattern), line))
        return found
    return []


def _processor(name: str, config: Any) -> Processor:
    """The model's; of a tokenizer that is not here, the built-in one takes the place."""
    with torch.device("meta"):
        try:
            processor = MODELS[name](config).processor
            getattr(processor, "tokenizer", None)  # some are read when they are first asked for
            return processor
        except ConfigError as error:
            if not str(error).startswith("model.tokenizer:"):
                raise
            # Traced rows are as long as they may be, so that the vocabulary does not count.
            return MODELS[name](replace(config, tokenizer=TINY)).processor


def _by_module(parameters: dict[str, nn.Parameter]) -> list[Count]:
    counts: dict[str, Count] = {}
    for name, parameter in parameters.items():
        short = ".".join(name.split(".")[:2])
        count = counts.setdefault(short, Count(short))
        count.total += parameter.numel()
        count.trained += parameter.numel() if parameter.requires_grad else 0
    return list(counts.values())


def _by_pattern(parameters: dict[str, nn.Parameter], stage: Stage) -> list[Group]:
    counts = {pattern: Group(pattern, scale=scale) for pattern, scale in stage.lr_scale.items()}
    for name, parameter in parameters.items():
        pattern = next((p for p in stage.lr_scale if scale_of(name, {p: 1.0}) is not None), None)
        if pattern is not None:
            counts[pattern].total += parameter.numel()
            counts[pattern].trained += parameter.numel() if parameter.requires_grad else 0
    return list(counts.values())


def _memory(cost: StageCost, module: nn.Module, precision: str) -> Memory:
    total = sum(p.numel() for p in module.parameters())
    mixed = precision.endswith("mixed")
    return Memory(
        weights=total * (6 if mixed else 4),
        gradients=cost.trained * (8 if (cost.ranks or 1) > 1 else 4),
        optimizer=cost.trained * 8,
        scores=12 * cost.scores[0] * cost.scores[1],
    )


def _shard(memory: Memory, cost: StageCost, module: nn.Module, everything: bool) -> None:
    """What fsdp2 leaves of it on a rank: its share, and beside it what is gathered at once."""
    ranks, total = cost.ranks or 1, sum(p.numel() for p in module.parameters())
    sizes = sorted(sum(p.numel() for p in block.parameters()) for block in blocks(module))
    gathered = total if everything else total - sum(sizes) + sum(sizes[-2:])
    trained = cost.trained * gathered // max(total, 1)
    memory.weights = memory.weights * gathered // max(total, 1) + 4 * total // ranks
    memory.gradients = 4 * cost.trained // ranks + 4 * trained
    memory.optimizer //= ranks


def _add_activations(memory: Memory, recipe: Recipe, stage: Stage, module: nn.ModuleDict, cost: StageCost) -> None:
    """Trace one query and one document; an architecture that cannot be traced leaves them unknown."""
    cache = stage.grad_cache
    if cache is not None and cache.chunk_size is None:
        memory.why = "grad_cache.tokens_per_chunk bounds them"
        return
    try:
        processor = _processor(recipe.model.name, stage_model_config(recipe, stage))
        per_query, per_document = bytes_kept(module["model"], processor, recipe.trainer.precision)
    except Exception as error:  # a tokenizer that is not here, an operation that needs real numbers: no estimate
        memory.why = f"not traced: {' '.join(str(error).split())[:160]}"
        return
    if cache is not None and cache.chunk_size is not None:
        kept = cache.keep_graph if isinstance(cache.keep_graph, int) else 0
        memory.activations = max(per_query, per_document) * cache.chunk_size * (1 + kept)
        if cache.keep_graph == "auto":  # beside one chunk's, as much as there is, or is allowed
            memory.activations += int((cache.memory_gb or 0) * 2**30)
    else:
        memory.activations = cost.rows * (per_query + per_document * stage.data.documents_per_query)
