"""What a recipe may say. Dataclasses are the only schema; `load.py` merges YAML into them and checks across fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class SourceConfig:
    """One source of a mixture. In YAML a bare number is its weight."""

    weight: float = 1.0
    """Share of the batches, relative to the other sources; 0 leaves the source out."""
    max_samples: int | None = None
    """Use only the first so many samples of the source (in its own order, before any shuffle)."""


@dataclass
class MixtureConfig:
    """The data of one stage."""

    sources: dict[str, SourceConfig] = MISSING
    """Data spec name (or path of a spec YAML) -> weight."""
    batch_size: int = MISSING
    """Queries per optimizer step over all ranks and accumulation steps."""
    documents_per_query: int = 1
    """1 positive + the rest negatives."""
    block_size: int | None = None
    """Neighbouring queries drawn from one source; null: the whole batch. Must divide batch_size."""
    shuffle_window: int = 4096
    """Samples shuffled together, in order of (shuffled) shards; 0 keeps the stored order."""
    num_workers: int = 0
    """Loader processes per rank; 0 loads in the training process. The batches do not depend on it."""
    max_bad_fraction: float = 0.001
    """Stop when more than this share of the samples read was broken and had to be replaced."""


@dataclass
class OptimizerConfig:
    """AdamW (Loshchilov and Hutter 2019)."""

    lr: float = MISSING
    """Peak learning rate, before a parameter's `lr_scale`."""
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    no_decay: list[str] = field(default_factory=lambda: [r"bias$", r"[nN]orm", r"logit_scale"])
    """Parameters (regex, searched in the name) without weight decay."""


@dataclass
class ScheduleConfig:
    """Learning rate over the stage's steps."""

    name: str = "linear"
    """constant | linear | cosine: the shape after warm-up."""
    warmup_steps: int = 0
    final_fraction: float = 0.0
    """Where linear and cosine end, as a share of the peak."""


@dataclass
class Stage:
    """Data + objectives + what trains, for N steps; one `Trainer.fit`, ended by a checkpoint."""

    name: str = MISSING
    steps: int = MISSING
    """Optimizer steps."""
    data: MixtureConfig = field(default_factory=MixtureConfig)
    objectives: dict[str, Any] = MISSING
    """Name in the log -> objective section (`name:` picks the class; the key itself where it is left out)."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    lr_scale: dict[str, float] = field(default_factory=lambda: {".*": 1.0})
    """Ordered regexes, searched in parameter names ("model.text.…", "objectives.itc.…"): first match wins, 0 freezes."""
    model: dict[str, Any] = field(default_factory=dict)
    """Fields of the model section that this stage changes (PreFLMR: leave the text out of the score, split the encoder)."""
    init_from: str | None = "previous"
    """previous | a folder | null (as the model section says)."""


@dataclass
class FeatureCacheConfig:
    """Outputs of towers that do not train, kept on disk by content and weights; safe to delete."""

    folder: str = "${oc.env:XDG_CACHE_HOME,${oc.env:HOME}/.cache}/mmret/features"
    max_gb: float = 20.0
    """The folder never grows past this; older towers' features go first."""
    dtype: str = "float16"
    """float16 | bfloat16 | float32"""


@dataclass
class TrainerConfig:
    """How to run; nothing here changes what is learnt but precision."""

    accelerator: str = "auto"
    devices: int | str = 1
    num_nodes: int = 1
    strategy: str = "auto"
    """auto | ddp"""
    precision: str = "32-true"
    """32-true | bf16-mixed | 16-mixed"""
    accumulate: int = 1
    """Backward passes per optimizer step. In-batch negatives come from one pass only: fewer than without."""
    clip_norm: float | None = 1.0
    log_every: int = 10
    checkpoint_every: int = 1000
    """Optimizer steps between resumable checkpoints."""
    evaluate_every: int | None = None
    """Optimizer steps between evaluations in training; null: at the end of each stage only."""
    threads: int | None = None
    """CPU threads of torch; null: torch's choice."""


@dataclass
class EvaluationConfig:
    """What is measured, on what."""

    benchmarks: list[str] = field(default_factory=list)
    """Benchmark spec names or paths."""
    during_training: list[str] = field(default_factory=list)
    """The part of them, as "benchmark/split", that is measured while training (`trainer.evaluate_every`) and after each stage."""
    batch_size: int = 64
    controls: bool = True
    """Measure the controls a benchmark names (question only, shuffled images, ...) after the last stage."""


@dataclass
class Recipe:
    """Model + stages + evaluation: everything a run is, given the code and the data."""

    version: int = 1
    name: str = MISSING
    seed: int = 0
    out: str = "runs/${name}"
    model: Any = MISSING
    """`name:` picks the architecture, the rest is its Config."""
    stages: list[Stage] = MISSING
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    feature_cache: FeatureCacheConfig | None = None
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    gallery: int = 24
    """Questions shown with pictures on the report page."""
