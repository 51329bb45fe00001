"""Floating-point operations of a training step, as torch counts them: matrix products, convolutions, attention.

All that is computed counts, also a second time (GradCache, activation checkpointing): a bench compares what training
costs. `mmret.ops.flops` leaves that out, as MFU is defined. Both stand on torch's counter, and share nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmret.data import MixtureDataModule
from mmret.models import load
from mmret.models.retriever import Retriever
from mmret.recipe import Recipe, Stage, load_recipe
from mmret.training.stage import quieten_lightning, stage_module, stage_seed


class Flops:
    """A count; two operations for a multiplication with addition."""

    def __init__(self) -> None:
        self.total = 0
        """All."""
        self.left_out = 0
        """In modules whose outputs a training run takes from its cache."""


@contextmanager
def counting(cached: Iterable[nn.Module] = ()) -> Iterator[Flops]:
    """Count what runs while this is open, forward and backward.

    Element-wise operations, norms, softmax outside of attention and the optimizer are not counted (torch's counter
    knows none of them); they are a small share of a transformer's.

    Args:
        cached: modules counted apart, as `left_out`.
    """
    flops, entered = Flops(), []
    with FlopCounterMode(display=False) as counter:

        def enter(*_: Any) -> None:
            entered.append(counter.get_total_flops())

        def leave(*_: Any) -> None:
            before = entered.pop()
            if not entered:  # towers do not lie in each other, but their names may mean one module
                flops.left_out += counter.get_total_flops() - before

        hooks = []
        for module in {id(module): module for module in cached}.values():
            hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
        try:
            yield flops
        finally:
            for hook in hooks:
                hook.remove()
            flops.total = counter.get_total_flops()


def flops_of_steps(folder: Path) -> list[int]:
    """FLOPs of one optimizer step of each stage of a finished run, on all its devices together."""
    recipe = load_recipe(folder / "recipe.yaml")
    return [flops_of_step(recipe, stage, load(folder / stage.name / "model")) for stage in recipe.stages]


def flops_of_step(recipe: Recipe, stage: Stage, model: Retriever) -> int:
    """FLOPs of the stage's first optimizer step on this device, through the same training code.

    Frozen towers of a run with a feature cache are left out, as its steps do not run them: what filling the cache once
    took is not in it. GradCache's second passes are.

    Args:
        model: as the stage leaves it; the numbers in it do not matter.
    """
    recipe, stage = _on_one_device(recipe), replace(stage, steps=1)
    module = stage_module(recipe, stage, model)
    accumulate = recipe.trainer.accumulate
    mixture = replace(stage.data, num_workers=0)
    seed = stage_seed(recipe, stage)
    data = MixtureDataModule(mixture, model.processor, module.needs, seed, accumulate, accumulate)
    frozen = [
        tower
        for tower in model.towers().values()
        if not any(parameter.requires_grad for parameter in tower.parameters())
    ]
    trainer = _trainer(recipe, stage)
    with counting(frozen if recipe.feature_cache is not None else ()) as flops:
        trainer.fit(module, datamodule=data)
    return flops.total - flops.left_out


def _on_one_device(recipe: Recipe) -> Recipe:
    """As many rows in a pass as each rank has, and the other ranks' passes one after the other."""
    trainer = recipe.trainer
    devices = trainer.devices if trainer.devices != "auto" else max(torch.cuda.device_count(), 1)
    passes = trainer.accumulate * int(devices) * trainer.num_nodes
    one = replace(trainer, devices=1, num_nodes=1, strategy="auto", accumulate=passes)
    return replace(recipe, trainer=one)


def _trainer(recipe: Recipe, stage: Stage) -> L.Trainer:
    quieten_lightning()
    t = recipe.trainer
    return L.Trainer(
        accelerator=t.accelerator,
        devices=1,
        precision=t.precision,  # pyright: ignore[reportArgumentType]  (the recipe's check knows Lightning's names)
        accumulate_grad_batches=t.accumulate if stage.grad_cache is None else 1,
        max_steps=1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
