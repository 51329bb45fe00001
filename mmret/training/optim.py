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
from mmret.recipe.schema import OptimizerConfig, ScheduleConfig


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


def build_optimizer(module: nn.Module, config: OptimizerConfig, scales: Mapping[str, float]) -> AdamW:
    """AdamW over the trainable parameters, one group per (scale, decay) pair, named for the log."""
    no_decay = [re.compile(pattern) for pattern in config.no_decay]
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decay = not any(regex.search(name) for regex in no_decay)
            groups.setdefault((scales[name], decay), []).append(parameter)
    return AdamW(
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
        # Not on CUDA: there Lightning cannot clip scaled fp16 gradients of a fused optimizer.
        fused=all(p.device.type == "cpu" for ps in groups.values() for p in ps),
    )


def build_schedule(optimizer: Optimizer, config: ScheduleConfig, steps: int) -> LambdaLR:
    """Linear warm-up to the peak over `warmup_steps`, then the named shape to `final_fraction` at `steps`."""

    def factor(step: int) -> float:
        if step < config.warmup_steps:
            return (step + 1) / (config.warmup_steps + 1)
        if config.name == "constant":
            return 1.0
        progress = min(1.0, (step - config.warmup_steps) / max(1, steps - config.warmup_steps))
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
