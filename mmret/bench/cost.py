"""A finished run's cost: parameters, computation, memory and time of training, and what its model takes at use."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from mmret.bench.flops import flops_of_steps
from mmret.bench.latency import costs_at_use
from mmret.errors import CheckpointError
from mmret.evaluation.benchmark import Benchmark
from mmret.evaluation.record import RunRecord
from mmret.models import load
from mmret.recipe import load_recipe

COST_FILE = "cost.json"


def write_cost(folder: Path, primary: str) -> Path:
    """Measure, and write `cost.json`.

    Args:
        folder: a finished run's.
        primary: the metric whose benchmark's queries and documents are encoded and searched.
    """
    cost = {**training_cost(folder), **_use_cost(folder, primary)}
    file = folder / COST_FILE
    part = file.with_name(f"{COST_FILE}.part")
    part.write_text(json.dumps(cost, indent=1) + "\n")
    os.replace(part, file)
    return file


def training_cost(folder: Path) -> dict[str, Any]:
    """Of all stages: parameters of the last, trained ones of the stage that trains most, everything else summed.

    Seconds are steps x rows / (rows in a second), so that evaluation, checkpoints and what was computed twice after an
    interruption are not in them; `wall_seconds` has all that the last start of each stage took.
    """
    recipe = load_recipe(folder / "recipe.yaml")
    records = [json.loads((folder / stage.name / "stage.json").read_text()) for stage in recipe.stages]
    samples = [stage.steps * stage.data.batch_size for stage in recipe.stages]
    seconds = sum(rows / record["samples_per_s"] for rows, record in zip(samples, records))
    peaks = [peak for record in records if (peak := record.get("peak_memory_mb")) is not None]
    per_step = flops_of_steps(folder)
    return {
        "parameters": records[-1]["parameters"],
        "trainable": max(record["trainable"] for record in records),
        "steps": {stage.name: stage.steps for stage in recipe.stages},
        "samples": sum(samples),
        "training_flops": sum(flops * stage.steps for flops, stage in zip(per_step, recipe.stages)),
        "flops_of_step": {stage.name: flops for stage, flops in zip(recipe.stages, per_step)},
        "flops_without_cached_towers": recipe.feature_cache is not None,
        "train_seconds": round(seconds, 2),
        "wall_seconds": round(sum(record["seconds"] for record in records), 1),
        "samples_per_s": round(sum(samples) / seconds, 1),
        "peak_memory_mb": max(peaks, default=None),
    }


def _use_cost(folder: Path, primary: str) -> dict[str, Any]:
    recipe, record = load_recipe(folder / "recipe.yaml"), RunRecord.read(folder)
    name, split = primary.rsplit("/", 2)[:2]
    sources = {entry["prefix"]: entry["source"] for entry in record.benchmarks}
    if name.rpartition("/")[2] not in sources:
        raise CheckpointError(f"{folder}: not measured on {name}; known: {', '.join(sources)}")
    benchmark = Benchmark.load(sources[name.rpartition("/")[2]])
    if benchmark.classifies:
        return {}
    on_gpu = recipe.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    model = load(folder / recipe.stages[-1].name / "model")
    found = costs_at_use(model, benchmark, split, "cuda" if on_gpu else "cpu")
    device = torch.cuda.get_device_name() if on_gpu else f"cpu, {torch.get_num_threads()} threads"
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in found.items()} | {
        "device": device
    }
