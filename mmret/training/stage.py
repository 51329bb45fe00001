"""One stage: starting weights, data, `Trainer.fit`, and what is left behind."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from hashlib import blake2b
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from mmret.allocator import keep_freed_memory
from mmret.data import MixtureDataModule
from mmret.evaluation.evaluator import Evaluator
from mmret.models import MODELS
from mmret.models.retriever import Retriever
from mmret.objectives.store import stored_state
from mmret.ops import rank_and_world
from mmret.ops.memory import peak_memory_mb
from mmret.recipe import stage_model_config
from mmret.recipe.schema import Recipe, Stage, TrainerConfig
from mmret.training.averaging import MovingAverage
from mmret.training.best import BestModels, best_models, measured_names
from mmret.training.callbacks import EvaluateInTraining, progress
from mmret.training.checkpoints import CheckpointFile, Checkpoints, newest_checkpoint
from mmret.training.compiling import compile_blocks
from mmret.training.contrastive import ContrastiveModule
from mmret.training.ending import leave, save
from mmret.training.handover import Handover, hand_over, hand_over_objectives
from mmret.training.late_interaction import LateInteractionModule
from mmret.training.loggers import build_loggers
from mmret.training.module import RetrievalModule
from mmret.training.optim import trainable_count
from mmret.training.precompute import fill_feature_cache, stage_contents
from mmret.training.progress import track
from mmret.training.record import settings_of
from mmret.training.sharding import ShardedStrategy, whole
from mmret.training.skipped import Skipped
from mmret.training.stopping import StopAtStep
from mmret.training.throughput import Throughput
from mmret.training.validation import validation_loss

logger = logging.getLogger(__name__)

MODULES: dict[str, type[RetrievalModule]] = {
    "preflmr": LateInteractionModule,
    "vlm2vec": RetrievalModule,
    "vlmo": RetrievalModule,
}
"""How each architecture trains where a batch fits; a stage with `grad_cache` trains as a `ContrastiveModule`."""


def run_stage(recipe: Recipe, stage: Stage, folder: Path, fingerprint: str, previous: Path | None) -> None:
    """Train one stage into `folder`, from its newest checkpoint if it has one.

    Args:
        fingerprint: kept in stage.json; tells a later run whether this is the stage it wants.
        previous: folder of the stage before; None for the first.
    """
    began = time.monotonic()
    module, handover = _build(recipe, stage, previous)
    total, trainable = trainable_count(module)
    _tell(stage, handover, total, trainable)

    accumulate = recipe.trainer.accumulate
    needs, processor = module.needs, module.model.processor
    seed = stage_seed(recipe, stage)
    data = MixtureDataModule(stage.data, processor, needs, seed, stage.steps * accumulate, accumulate)
    resume, step = newest_checkpoint(folder / "checkpoints"), 0
    if resume is not None:
        step = torch.load(resume, map_location="cpu", weights_only=False, mmap=True)["global_step"]
        data.start = step * accumulate
        logger.info("stage %s: goes on at step %d of %d (%s)", stage.name, step, stage.steps, resume)

    evaluator = Evaluator(
        recipe.evaluation.during_training, batch_size=recipe.evaluation.batch_size, device=None, track=track
    )
    names = measured_names(evaluator, recipe.stages)
    evaluator.leave_out_headless(module.objectives, module.model.retrieves)
    best = best_models(recipe, stage, evaluator, names, folder / "best")
    held_back = None
    if stage.validation is not None:
        held_back = MixtureDataModule(stage.validation, processor, needs, recipe.seed, stage.validation_batches)
    if recipe.feature_cache is not None:
        contents = [*stage_contents(data), *(stage_contents(held_back) if held_back else ()), *evaluator.contents()]
        on_gpu = recipe.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        fill_feature_cache(module.model, contents, recipe.feature_cache, device="cuda" if on_gpu else None)

    if recipe.trainer.compile:
        compile_blocks(module.model)
    average = None if stage.optimizer.ema_decay is None else MovingAverage(stage.optimizer.ema_decay)
    measure = _measure(module, evaluator, held_back)
    skipped = Skipped(lambda: data.bad)
    throughput = Throughput(stage.data.batch_size, accumulate, waited=lambda: data.waited_s, skipped=skipped)
    callbacks: list[Callback] = [throughput, progress(stage.name, throughput)]
    if recipe.trainer.evaluate_every:
        evaluate = _measured_at(measure, module, average, best)
        callbacks.append(EvaluateInTraining(evaluate, recipe.trainer.evaluate_every, throughput))
    stopping = StopAtStep(folder / "checkpoints", recipe.trainer.checkpoint_every)
    # Before the evaluation, which may take longer than the scheduler waits.
    callbacks.insert(2, stopping)
    files = CheckpointFile()

    def saved() -> None:
        skipped.meet(module.device)
        throughput.pause()

    callbacks.append(Checkpoints(folder / "checkpoints", recipe.trainer.checkpoint_every, files, saved))
    if average is not None:
        callbacks.insert(0, average)  # before anything that saves or measures
    trainer = _trainer(recipe, stage, folder, callbacks, files, step)
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    trainer.fit(module, datamodule=data, ckpt_path=None if resume is None else str(resume), weights_only=False)
    if trainer.interrupted:
        raise KeyboardInterrupt
    stopping.check(trainer, stage.name)
    module.to(trainer.strategy.root_device)  # Lightning leaves it on the CPU
    metrics = _measured_at(measure, module, None, best)(stage.steps)
    telling = ("/recall@1", "/accuracy", "/vqa_score", "val/loss")
    shown = {name: value for name, value in metrics.items() if name.endswith(telling)}
    if shown:
        logger.info("stage %s: %s", stage.name, ", ".join(f"{name} {value:.3f}" for name, value in shown.items()))
    record = {
        "name": stage.name,
        "fingerprint": fingerprint,
        "settings": settings_of(recipe, stage),
        "steps": stage.steps,
        "samples_per_s": round(throughput.samples_per_s, 1),
        "peak_memory_mb": peak_memory_mb(trainer.strategy.root_device),
        "parameters": total,
        "trainable": trainable,
        "handover": {"source": handover.source, **handover.summary()},
        "metrics": metrics,
        "bad_samples": skipped.meet(trainer.strategy.root_device),
        "seconds": round(time.monotonic() - began, 1),
    }
    leave(module, folder, record)


def stage_seed(recipe: Recipe, stage: Stage) -> int:
    """Each stage its own: two stages on one source would else begin with the same samples."""
    return int.from_bytes(blake2b(f"{recipe.seed}/{stage.name}".encode(), digest_size=7).digest(), "big")


def _build(recipe: Recipe, stage: Stage, previous: Path | None) -> tuple[RetrievalModule, Handover]:
    """Model and objectives with their starting weights: pretrained towers, or an earlier stage's state."""
    cls, config = MODELS[recipe.model.name], stage_model_config(recipe, stage)
    torch.manual_seed(stage_seed(recipe, stage))
    source = previous if stage.init_from == "previous" else stage.init_from
    objectives: dict[str, Tensor] = {}
    model: Retriever
    if source is None:
        model = cls.from_config(config)
        handover = Handover("the model section", kept=list(model.state_dict()))
    else:
        folder = Path(source) / "model" if (Path(source) / "model").is_dir() else Path(source)
        model = cls(config)
        handover = hand_over(model, model.earlier_state(folder), str(folder))
        model.after_handover(handover.new)
        objectives = stored_state(folder)
    module = stage_module(recipe, stage, model)
    hand_over_objectives(module.objectives, objectives, handover)
    handover.frozen = [name for name, p in module.named_parameters() if not p.requires_grad]
    return module, handover


def stage_module(recipe: Recipe, stage: Stage, model: Retriever) -> RetrievalModule:
    """The model as this stage trains it, with fresh heads."""
    t = recipe.trainer
    if stage.grad_cache is not None:
        return ContrastiveModule(model, stage, recipe.seed, accumulate=t.accumulate, clip_norm=t.clip_norm)
    return MODULES[recipe.model.name](model, stage, recipe.seed)


def _measure(
    module: RetrievalModule, evaluator: Evaluator, held_back: MixtureDataModule | None
) -> Callable[[], dict[str, float]]:
    def measure() -> dict[str, float]:
        with whole(module):
            metrics = evaluator(module.model, objectives=module.objectives) if evaluator.benchmarks else {}
            if held_back is not None:
                held_back.rank, held_back.world = rank_and_world()
                metrics = {**metrics, **validation_loss(module, held_back.train_dataloader())}
            return metrics

    return measure


def _measured_at(
    measure: Callable[[], dict[str, float]],
    module: RetrievalModule,
    average: MovingAverage | None,
    best: BestModels | None,
) -> Callable[[int], dict[str, float]]:
    """The metrics after a step; the model is kept if it is one of the best, as it was measured."""

    def measured(step: int) -> dict[str, float]:
        with nullcontext() if average is None else average.swapped():
            metrics = measure()
            if best is not None:
                best.offer(step, metrics, lambda path: save(module, path))
            return metrics

    return measured


def quieten_lightning() -> None:
    """No advertisements, and no hints that do not apply: towers in eval mode are meant, batches move themselves."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    hints = ("in eval mode at the start", "transfer_batch_to_device", "does not have many workers", "is not empty")
    for hint in (*hints, "smaller than the logging interval", "LeafSpec"):
        warnings.filterwarnings("ignore", f".*{hint}.*")


def _trainer(
    recipe: Recipe, stage: Stage, folder: Path, callbacks: list[Callback], files: CheckpointFile, step: int
) -> L.Trainer:
    quieten_lightning()
    t = recipe.trainer
    automatic = stage.grad_cache is None  # else the module accumulates and clips, and Lightning refuses to
    return L.Trainer(
        accelerator=t.accelerator,
        devices=t.devices,
        num_nodes=t.num_nodes,
        strategy=_strategy(t),
        precision=t.precision,  # pyright: ignore[reportArgumentType]  (the recipe's check knows Lightning's names)
        accumulate_grad_batches=t.accumulate if automatic else 1,
        gradient_clip_val=t.clip_norm if automatic else None,
        max_steps=stage.steps,
        max_epochs=1,
        log_every_n_steps=t.log_every if automatic else t.log_every * t.accumulate,  # else it counts batches
        logger=build_loggers(recipe, stage, folder, step),
        callbacks=callbacks,
        plugins=[files, *_environment()],
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )


def _environment() -> list[Any]:
    """SLURM's, without Lightning's requeue: it saves inside the signal handler, wherever each rank stands just then."""
    by_srun = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()
    return [SLURMEnvironment(auto_requeue=False)] if by_srun else []


def _strategy(trainer: TrainerConfig) -> str | ShardedStrategy:
    return ShardedStrategy(_world(trainer)) if trainer.strategy == "fsdp2" else strategy_name(trainer)


def _world(trainer: TrainerConfig) -> int:
    devices = trainer.devices if trainer.devices != "auto" else max(torch.cuda.device_count(), 1)
    return int(devices) * trainer.num_nodes


def strategy_name(trainer: TrainerConfig) -> str:
    """Lightning's name of how processes train together: DDP that allows for parameters which a step does not reach.

    VLMo has experts that some objectives pass by, and a rank's rows may all be texts. DDP looks through each step's
    graph for that (12 ms for 24 layers read six times) and gives what no rank reached no gradient, as one process does.
    """
    several = _world(trainer) > 1
    return "ddp_find_unused_parameters_true" if several or trainer.strategy == "ddp" else trainer.strategy


@rank_zero_only
def _tell(stage: Stage, handover: Handover, total: int, trainable: int) -> None:
    lines = [f"stage {stage.name}: {stage.steps} steps, {trainable:,} of {total:,} parameters train"]
    for kind, names in handover.summary().items():
        if names:
            origin = f"  (from {handover.source})" if kind == "kept" else ""
            lines.append(f"  {kind}: {', '.join(names)}{origin}")
    logger.info("\n".join(lines))
