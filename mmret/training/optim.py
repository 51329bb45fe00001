"""Parameter groups from ordered regexes, and the learning rate over a stage's steps."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mmret.errors import ConfigError
from mmret.models.retriever import Retriever
from mmret.models.vlmo.presets import RELEASED_NO_DECAY
from mmret.recipe.schema import OptimizerConfig, ScheduleConfig, Stage
from mmret.training.early_epsilon import use_early_epsilon

EVERYTHING = {".*": 1.0}
"""`lr_scale` where a stage says nothing."""


def lr_scale_of(stage: Stage, model: Retriever) -> dict[str, float]:
    """A stage's `lr_scale`, or the one that its `train` stands for: a part of the model, and the objectives.

    Where the stage says neither, adapters train if the model has some, and everything otherwise.

    Raises:
        ConfigError: the model has no such part.
    """
    parts = model.parts()
    name = stage.train or ("adapters" if "adapters" in parts and stage.lr_scale == EVERYTHING else "all")
    if name == "all":
        return stage.lr_scale
    if name not in parts:
        known = ", ".join(["all", *parts])
        raise ConfigError(f"train: '{name}' is no part of this {type(model).__name__}; known here: {known}")
    regex = re.compile(parts[name])
    if not any(regex.search(parameter) for parameter, _ in model.named_parameters()):
        raise ConfigError(f"train: {name}: no parameter of this model is named so ({parts[name]}); write lr_scale")
    return {rf"^objectives\.|^model(?=\.).*({parts[name]})": 1.0, ".*": 0.0}


def scale_of(name: str, lr_scale: Mapping[str, float]) -> float | None:
    """The scale of the first pattern found in a parameter's name; None: no pattern is."""
    return next((scale for pattern, scale in lr_scale.items() if re.search(pattern, name)), None)


def scale_of_parameters(names: Iterable[str], lr_scale: Mapping[str, float]) -> dict[str, float]:
    """Learning-rate scale of each parameter: the first regex found in its name decides.

    Raises:
        ConfigError: a pattern matches nothing, or a parameter is matched by no pattern.
    """
    names = list(names)
    found = {name: scale_of(name, lr_scale) for name in names}
    scales = {name: scale for name, scale in found.items() if scale is not None}
    problems = []
    for pattern in lr_scale:
        if not any(re.search(pattern, name) for name in names):
            prefixes = sorted({part for name in names for part in _prefixes(name)})
            near = get_close_matches(pattern.replace("\\", ""), prefixes, n=1, cutoff=0.5)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            problems.append(f"lr_scale pattern '{pattern}' matches no parameter.{hint}")
    missing = [name for name in names if name not in scales]
    if missing:
        problems.append(f"lr_scale leaves out {_some(missing)}; end it with '.*': 1 (or 0 to freeze the rest)")
    if problems:
        raise ConfigError("\n".join(problems))
    return scales


def freeze(module: nn.Module, lr_scale: Mapping[str, float]) -> dict[str, float]:
    """Switch off gradients of parameters with scale 0; returns all scales."""
    parameters = dict(module.named_parameters())
    scales = scale_of_parameters(parameters, lr_scale)
    for name, parameter in parameters.items():
        parameter.requires_grad_(scales[name] > 0)
    if not any(scales.values()):
        raise ConfigError("lr_scale freezes every parameter: nothing would train")
    return scales


NO_DECAY = {"vlmo_released": RELEASED_NO_DECAY}
"""What an entry of `optimizer.no_decay` may name instead of being a regex."""


def with_layer_decay(
    scales: Mapping[str, float], layer_decay: float | None, layers_above: Mapping[str, int]
) -> dict[str, float]:
    """Scales times layer_decay^(layers above): BEiT's layer-wise decay (Bao et al. 2021, Sec. 3.2), per tower.

    Args:
        scales: of `lr_scale`, by parameter.
        layers_above: by parameter of the model, which is "model." in `scales`; what it does not have is a head's: 0.
    """
    if layer_decay is None:
        return dict(scales)
    return {n: scale * layer_decay ** layers_above.get(n.removeprefix("model."), 0) for n, scale in scales.items()}


def build_optimizer(module: nn.Module, config: OptimizerConfig, scales: Mapping[str, float]) -> AdamW:
    """AdamW over the trainable parameters, one group per (scale, decay) pair, named for the log."""
    patterns = [one for pattern in config.no_decay for one in NO_DECAY.get(pattern, [pattern])]
    no_decay = [re.compile(pattern) for pattern in patterns]
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decay = not any(regex.search(name) for regex in no_decay)
            groups.setdefault((scales[name], decay), []).append(parameter)
    optimizer = AdamW(
        [
            {
                "params": parameters,
                "lr": config.lr * scale,
                "weight_decay": config.weight_decay if decay else 0.0,
                "name": f"x{scale:g}{'' if decay else ', no decay'}",
            }
            for (scale, decay), parameters in sorted(groups.items(), key=lambda item: item[0], reverse=True)
        ],
        betas=(config.betas[0], config.betas[1]),
        eps=config.eps,
        # Not on CUDA: there Lightning cannot clip scaled fp16 gradients of a fused optimizer. None leaves torch its
        # choice, foreach; False would mean neither, and a dozen kernels for each parameter.
        fused=all(p.device.type == "cpu" for ps in groups.values() for p in ps) or None,
    )
    return use_early_epsilon(optimizer) if config.eps_added == "before_correction" else optimizer


def build_schedule(optimizer: Optimizer, config: ScheduleConfig, steps: int) -> LambdaLR:
    """Linear warm-up to the peak, then the named shape to `final_fraction` at `steps`."""
    warmup = config.warmup(steps)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if config.name == "constant":
            return 1.0
        progress = min(1.0, (step - warmup) / max(1, steps - warmup))
        shape = 1 - progress if config.name == "linear" else (1 + math.cos(math.pi * progress)) / 2
        return config.final_fraction + (1 - config.final_fraction) * shape

    return LambdaLR(optimizer, factor)


def trainable_count(module: nn.Module) -> tuple[int, int]:
    """Numbers in all parameters, and in those that train."""
    total = sum(p.numel() for p in module.parameters())
    return total, sum(p.numel() for p in module.parameters() if p.requires_grad)


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[start:end]) for start in range(len(parts)) for end in range(start + 1, len(parts) + 1)]


def _some(names: list[str], shown: int = 3) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
