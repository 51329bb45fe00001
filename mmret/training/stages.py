"""Stages in order: skip what is finished, go on where it was, hand weights over, measure, report."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from hashlib import blake2b
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only
from safetensors.torch import load_file, save_file

from mmret.data import MixtureDataModule
from mmret.evaluation.evaluator import Evaluator
from mmret.models import MODELS
from mmret.models.retriever import Retriever
from mmret.recipe import stage_model_config
from mmret.recipe.schema import Recipe, Stage
from mmret.training.callbacks import EvaluateInTraining, Throughput, checkpoints, newest_checkpoint, progress
from mmret.training.handover import Handover, hand_over, hand_over_objectives
from mmret.training.late_interaction import LateInteractionModule
from mmret.training.logs import merge_logs
from mmret.training.module import RetrievalModule
from mmret.training.optim import trainable_count
from mmret.training.precompute import fill_feature_cache, stage_contents
from mmret.training.record import claim, finished, settings_of, stage_fingerprint

logger = logging.getLogger(__name__)

MODULES: dict[str, type[RetrievalModule]] = {"preflmr": LateInteractionModule}
"""How each architecture trains."""


def run_recipe(recipe: Recipe, fresh: bool = False) -> Path:
    """Train every stage that is not finished, evaluate, write the report; returns the run's folder.

    Stopped at any point and called again, it goes on where it was.

    Raises:
        ConfigError: the folder holds a run of another recipe.
    """
    out = Path(recipe.out)
    if fresh and rank_zero_only.rank == 0 and (out / "recipe.yaml").exists():
        shutil.rmtree(out)
    if recipe.trainer.threads:
        torch.set_num_threads(recipe.trainer.threads)
    claim(out, recipe)
    previous: Path | None = None
    chain = ""
    for stage in recipe.stages:
        chain = stage_fingerprint(recipe, stage, chain)
        folder = out / stage.name
        if finished(folder, chain, stage, recipe):
            logger.info("stage %s: finished before, skipped", stage.name)
        else:
            _run_stage(recipe, stage, folder, chain, previous)
        previous = folder
    assert previous is not None
    _final_evaluation(recipe, out, previous)
    return out


def _run_stage(recipe: Recipe, stage: Stage, folder: Path, chain: str, previous: Path | None) -> None:
    began = time.monotonic()
    model, objectives_state, handover = _initial_model(recipe, stage, previous)
    module = MODULES[recipe.model.name](model, stage, recipe.seed)
    if objectives_state is not None:
        hand_over_objectives(module.objectives, objectives_state, handover)
    handover.frozen = [name for name, p in module.named_parameters() if not p.requires_grad]
    total, trainable = trainable_count(module)
    _tell(stage, handover, total, trainable)

    needs = frozenset(need for objective in module.objectives.values() for need in objective.needs)
    accumulate = recipe.trainer.accumulate
    data = MixtureDataModule(
        stage.data, model.processor, needs, recipe.seed, batches=stage.steps * accumulate, accumulate=accumulate
    )
    resume = newest_checkpoint(folder / "checkpoints")
    if resume is not None:
        step = torch.load(resume, map_location="cpu", weights_only=False, mmap=True)["global_step"]
        data.start = step * accumulate
        logger.info("stage %s: goes on at step %d of %d (%s)", stage.name, step, stage.steps, resume)
    evaluator = _evaluator(recipe, recipe.evaluation.during_training)
    if recipe.feature_cache is not None and hasattr(model, "towers"):
        contents = [*stage_contents(data), *evaluator.contents()]
        fill_feature_cache(model, contents, recipe.feature_cache)
    throughput = Throughput(stage.data.batch_size, accumulate)
    callbacks = [
        throughput,
        progress(stage.name, throughput),
        checkpoints(folder / "checkpoints", recipe.trainer.checkpoint_every),
    ]
    if recipe.trainer.evaluate_every and evaluator.benchmarks:
        callbacks.append(EvaluateInTraining(lambda: evaluator(module.model), recipe.trainer.evaluate_every, throughput))
    trainer = _trainer(recipe, stage, folder, callbacks)
    trainer.fit(module, datamodule=data, ckpt_path=None if resume is None else str(resume), weights_only=False)
    if trainer.interrupted:
        raise KeyboardInterrupt
    metrics = evaluator(module.model.to(trainer.strategy.root_device)) if evaluator.benchmarks else {}
    _finish(
        trainer,
        module,
        folder,
        {
            "name": stage.name,
            "fingerprint": chain,
            "settings": settings_of(recipe, stage),
            "steps": stage.steps,
            "seconds": round(time.monotonic() - began, 1),
            "samples_per_s": round(throughput.samples_per_s, 1),
            "parameters": total,
            "trainable": trainable,
            "handover": {"source": handover.source, **handover.summary()},
            "metrics": metrics,
            "bad_samples": getattr(data, "bad", 0),
        },
    )


def _initial_model(
    recipe: Recipe, stage: Stage, previous: Path | None
) -> tuple[Retriever, dict[str, torch.Tensor] | None, Handover]:
    """The stage's model with its starting weights: pretrained towers, or an earlier stage's state."""
    cls, config = MODELS[recipe.model.name], stage_model_config(recipe, stage)
    torch.manual_seed(int.from_bytes(blake2b(f"{recipe.seed}/{stage.name}".encode(), digest_size=7).digest(), "big"))
    source = previous if stage.init_from == "previous" else stage.init_from
    if source is None:
        model = cls.from_config(config)
        return model, None, Handover("the model section", new=list(model.state_dict()))
    source = Path(source)
    folder = source / "model" if (source / "model").is_dir() else source
    model = cls(config)
    report = hand_over(model, cls.load(folder).state_dict(), str(folder))
    objectives = folder.parent / "objectives.safetensors"
    return model, load_file(objectives) if objectives.exists() else None, report


def _trainer(recipe: Recipe, stage: Stage, folder: Path, callbacks: list[Any]) -> L.Trainer:
    t = recipe.trainer
    loggers: list[Any] = [CSVLogger(folder, name="logs", flush_logs_every_n_steps=t.log_every)]
    try:
        from lightning.pytorch.loggers import TensorBoardLogger

        loggers.append(TensorBoardLogger(folder, name="tensorboard"))
    except ModuleNotFoundError:  # tensorboard is optional; the CSV log has the same numbers
        pass
    return L.Trainer(
        accelerator=t.accelerator,
        devices=t.devices,
        num_nodes=t.num_nodes,
        strategy=t.strategy,
        precision=t.precision,  # pyright: ignore[reportArgumentType]  (checked against Lightning's names in the recipe)
        accumulate_grad_batches=t.accumulate,
        gradient_clip_val=t.clip_norm,
        max_steps=stage.steps,
        max_epochs=1,
        log_every_n_steps=t.log_every,
        logger=loggers,
        callbacks=callbacks,
        enable_checkpointing=True,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )


def _finish(trainer: L.Trainer, module: RetrievalModule, folder: Path, record: dict[str, Any]) -> None:
    """Write model, objectives and, last, stage.json: its presence says that the stage is complete."""
    if trainer.is_global_zero:
        module.model.save(folder / "model")
        objectives = {k: v.detach().cpu().contiguous() for k, v in module.objectives.state_dict().items()}
        if objectives:
            save_file(objectives, folder / "objectives.safetensors")
        merge_logs(folder)
        temporary = folder / "stage.json.tmp"
        temporary.write_text(json.dumps(record, indent=1))
        os.replace(temporary, folder / "stage.json")
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    trainer.strategy.barrier("stage finished")


def _final_evaluation(recipe: Recipe, out: Path, last: Path) -> None:
    evaluator = _evaluator(recipe, recipe.evaluation.benchmarks, out / "evaluation")
    if not evaluator.benchmarks:
        return
    model = MODELS[recipe.model.name].load(last / "model")
    untrained = None
    if recipe.evaluation.controls and evaluator.wants("untrained"):
        torch.manual_seed(recipe.seed)
        untrained = MODELS[recipe.model.name].from_config(stage_model_config(recipe, recipe.stages[-1]))
    if recipe.feature_cache is not None and hasattr(model, "towers"):
        fill_feature_cache(model, evaluator.contents(), recipe.feature_cache, frozen=_frozen_towers(recipe, model))
        if untrained is not None:
            fill_feature_cache(
                untrained, evaluator.contents(), recipe.feature_cache, frozen=_frozen_towers(recipe, model)
            )
    metrics = evaluator(model, untrained=untrained, controls=recipe.evaluation.controls)
    if rank_zero_only.rank == 0:
        from mmret.evaluation.report import terminal_table, write_report

        temporary = out / "metrics.json.tmp"
        temporary.write_text(json.dumps(metrics, indent=1, sort_keys=True))
        os.replace(temporary, out / "metrics.json")
        terminal_table(metrics)
        logger.info("report: %s", write_report(out))


def _frozen_towers(recipe: Recipe, model: Any) -> set[str]:
    """Towers that no stage trained: their features are worth keeping."""
    from mmret.training.optim import scale_of_parameters

    frozen = set(model.towers())
    for stage in recipe.stages:
        names = [f"model.{name}" for name, _ in model.named_parameters()]
        scales = scale_of_parameters(names, {**stage.lr_scale, ".*": 1.0})
        for tower, module in model.towers().items():
            mine = {id(p) for p in module.parameters()}
            if any(scales[f"model.{n}"] > 0 for n, p in model.named_parameters() if id(p) in mine):
                frozen.discard(tower)
    return frozen


def _evaluator(recipe: Recipe, names: list[str], out: Path | None = None) -> Evaluator:
    return Evaluator(names, batch_size=recipe.evaluation.batch_size, out=out)


@rank_zero_only
def _tell(stage: Stage, handover: Handover, total: int, trainable: int) -> None:
    lines = [f"stage {stage.name}: {stage.steps} steps, {trainable:,} of {total:,} parameters train"]
    for kind, names in handover.summary().items():
        if names:
            lines.append(f"  {kind}: {', '.join(names)}" + (f"  (from {handover.source})" if kind == "kept" else ""))
    logger.info("\n".join(lines))
