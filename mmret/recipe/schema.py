"""What a recipe may say. Dataclasses are the only schema; `load.py` merges YAML into them and checks across fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from mmret.errors import ConfigError
from mmret.recipe.mixture import AugmentConfig, ImageMaskingConfig, MaskingConfig, MixtureConfig, SourceConfig
from mmret.recipe.rerank import RerankConfig
from mmret.recipe.rules import (
    FOLDER_NAME,
    FRACTION,
    FRACTIONS,
    PROPER_FRACTION,
    REGEXES,
    SHARE,
    above,
    at_least,
    check_fields,
    each_of,
    is_count_or,
    one_of,
)

__all__ = [
    "AugmentConfig",
    "EvaluationConfig",
    "FeatureCacheConfig",
    "GradCacheConfig",
    "ImageMaskingConfig",
    "MaskingConfig",
    "MixtureConfig",
    "OptimizerConfig",
    "Recipe",
    "RerankConfig",
    "ScheduleConfig",
    "SourceConfig",
    "Stage",
    "TrainerConfig",
]

VERSION = 1
"""Newest schema version that this code reads."""


@dataclass
class OptimizerConfig:
    """AdamW (Loshchilov and Hutter 2019)."""

    lr: float = MISSING
    """Peak learning rate, before a parameter's `lr_scale`."""
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    eps_added: str = "after_correction"
    """To the second moment's root after its bias correction, as torch does, or before_correction, as the AdamW of older
    transformers versions, with which VLMo was trained."""
    no_decay: list[str] = field(default_factory=lambda: [r"bias$", r"[nN]orm", r"logit_scale"])
    """Parameters (regex, searched in the name) without weight decay; `vlmo_released` stands for the released VLMo's."""
    layer_decay: float | None = None
    """Learning rate of a layer as a share of that of the layer above (BEiT's fine-tuning): a tower's block i of n has
    layer_decay^(n - i + 1), its embeddings layer_decay^(n + 1), heads 1; times `lr_scale`. null: one rate for all."""
    ema_decay: float | None = None
    """Evaluate, and end the stage, as an exponential moving average of the weights: after each step
    ema_decay x average + (1 - ema_decay) x weights. null: the last weights."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            lr=above(0),
            weight_decay=at_least(0),
            betas=FRACTIONS,
            eps=above(0),
            eps_added=one_of("after_correction", "before_correction"),
            no_decay=REGEXES,
            layer_decay=SHARE,
            ema_decay=PROPER_FRACTION,
        )


@dataclass
class ScheduleConfig:
    """Learning rate over the stage's steps."""

    name: str = "linear"
    """constant | linear | cosine: the shape after warm-up."""
    warmup_steps: int = 0
    warmup_fraction: float = 0.0
    """The same as a share of the stage's steps, rounded down; one of the two."""
    final_fraction: float = 0.0
    """Where linear and cosine end, as a share of the peak."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            name=one_of("constant", "linear", "cosine"),
            warmup_steps=at_least(0),
            warmup_fraction=FRACTION,
            final_fraction=FRACTION,
        )
        if self.warmup_steps and self.warmup_fraction:
            raise ConfigError("warmup_steps and warmup_fraction are both set; give one of them")

    def warmup(self, steps: int) -> int:
        """Steps of warm-up in a stage of so many."""
        return self.warmup_steps or int(self.warmup_fraction * steps)


@dataclass
class GradCacheConfig:
    """Encode a batch in chunks whose graphs need not fit in memory together (Gao et al. 2021). One of the two sizes."""

    chunk_size: int | None = None
    """Rows per chunk."""
    tokens_per_chunk: int | None = None
    """Tokens per chunk, padding included; rows are sorted by length first."""
    keep_graph: int | str = 0
    """So many chunks of each batch keep their graph and are not computed twice; auto: as many as memory allows."""
    memory_gb: float | None = None
    """auto: most memory for these graphs on each rank, in GiB; null: a share of what is free before a step."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            chunk_size=at_least(1),
            tokens_per_chunk=at_least(1),
            keep_graph=is_count_or("auto", least=0),
            memory_gb=above(0),
        )
        if self.memory_gb is not None and self.keep_graph != "auto":
            raise ConfigError("memory_gb bounds what keep_graph: auto keeps; set keep_graph: auto beside it")
        if (self.chunk_size is None) == (self.tokens_per_chunk is None):
            raise ConfigError("grad_cache wants exactly one of chunk_size and tokens_per_chunk")


@dataclass
class Stage:
    """Data + objectives + what trains, for N steps; one `Trainer.fit`, ended by a checkpoint."""

    name: str = MISSING
    """Names the stage's folder in the run's."""
    steps: int = MISSING
    """Optimizer steps."""
    data: MixtureConfig = field(default_factory=MixtureConfig)
    objectives: dict[str, Any] = MISSING
    """Name in the log -> objective section (`name:` picks the class; the key itself where it is left out)."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    train: str | None = None
    """What trains beside the objectives: all | adapters | connector; null: the adapters where there are some, else all.
    For anything finer write `lr_scale` instead."""
    lr_scale: dict[str, float] = field(default_factory=lambda: {".*": 1.0})
    """Ordered regexes, searched in parameter names ("model.text.", "objectives.itc."): first match wins, 0 freezes."""
    model: dict[str, Any] = field(default_factory=dict)
    """Fields of the model section that this stage changes (PreFLMR: text left out of the score, encoders separate)."""
    init_from: str | None = "previous"
    """previous | a folder, or a published VLMo file with its heads | null (as the model section says)."""

    validation: MixtureConfig | None = None
    """Held-back data whose loss is logged as val/loss at each evaluation in training and at the end of the stage."""
    validation_batches: int = 20
    """Batches of it; always the same ones."""
    grad_cache: GradCacheConfig | None = None
    """Batches larger than memory: exact gradient, about a third more computation."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            name=FOLDER_NAME,
            steps=at_least(1),
            validation_batches=at_least(1),
            train=one_of("all", "adapters", "connector"),
        )

    @property
    def active_objectives(self) -> dict[str, Any]:
        """Those with a weight: one of weight 0 is not built, asks nothing of the data and costs nothing."""
        return {name: config for name, config in self.objectives.items() if config.weight}


@dataclass
class FeatureCacheConfig:
    """Outputs of towers that do not train, kept on disk by content and weights; safe to delete."""

    folder: str = "${oc.env:XDG_CACHE_HOME,${oc.env:HOME}/.cache}/mmret/features"
    max_gb: float = 20.0
    """The folder never grows past this; older towers' features go first."""
    dtype: str = "float16"
    """float16 | bfloat16 | float32"""

    def __post_init__(self) -> None:
        check_fields(self, max_gb=above(0), dtype=one_of("float16", "bfloat16", "float32"))


@dataclass
class TrainerConfig:
    """How to run; nothing here changes what is learnt but precision."""

    accelerator: str = "auto"
    """auto | cpu | gpu | cuda | mps"""
    devices: int | str = 1
    """Processes on each node, one device each; "auto": as many as there are."""
    num_nodes: int = 1
    strategy: str = "auto"
    """auto | ddp | fsdp2: ddp with each rank keeping its part of parameters, gradients and AdamW's state."""
    precision: str = "32-true"
    """32-true | bf16-mixed | 16-mixed"""
    accumulate: int = 1
    """Backward passes per optimizer step. In-batch negatives come from one pass only: fewer than without."""
    clip_norm: float | None = 1.0
    log_every: int = 10
    loggers: list[str] = field(default_factory=lambda: ["csv", "tensorboard"])
    """csv | tensorboard | wandb | mlflow | comet: where numbers go, by Lightning's loggers. metrics.csv is always
    written; tensorboard is passed over where it is not installed."""
    checkpoint_every: int = 1000
    """Optimizer steps between resumable checkpoints."""
    evaluate_every: int | None = None
    """Optimizer steps between evaluations in training; null: at the end of each stage only."""
    keep_best: str | None = None
    """A metric measured in training ("flags/heldout/recall@1", "val/loss"): each stage keeps the models in which it was
    best, in STAGE/best. null: only what the stage ends with."""
    num_best: int = 1
    """So many of them."""
    compile: bool = False
    """The towers' blocks through torch.compile: faster steps after some minutes; needs a C++ compiler."""
    threads: int | None = None
    """CPU threads of torch; null: torch's choice."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            accelerator=one_of("auto", "cpu", "gpu", "cuda", "mps"),
            devices=is_count_or("auto"),
            num_nodes=at_least(1),
            strategy=one_of("auto", "ddp", "fsdp2"),
            precision=one_of("32-true", "bf16-mixed", "16-mixed"),
            accumulate=at_least(1),
            clip_norm=above(0),
            log_every=at_least(1),
            checkpoint_every=at_least(1),
            evaluate_every=at_least(1),
            num_best=at_least(1),
            loggers=each_of("csv", "tensorboard", "wandb", "mlflow", "comet"),
            threads=at_least(1),
        )
        if self.keep_best is not None and self.evaluate_every is None:
            raise ConfigError(f"keep_best is {self.keep_best}, which is measured where evaluate_every says; set that")


@dataclass
class EvaluationConfig:
    """What is measured, on what."""

    benchmarks: list[str] = field(default_factory=list)
    """Benchmark spec names or paths."""
    during_training: list[str] = field(default_factory=list)
    """The part of them, as "benchmark/split", measured while training (`trainer.evaluate_every`) and after a stage."""
    batch_size: int = 64
    controls: bool = True
    """Measure the controls a benchmark names (question only, shuffled images, ...) after the last stage."""
    rerank: RerankConfig | None = None
    """After the last stage, measure once more with the best documents of each query sorted anew by the itm head."""

    def __post_init__(self) -> None:
        check_fields(self, batch_size=at_least(1))


@dataclass
class Recipe:
    """Model + stages + evaluation: everything a run is, given the code and the data."""

    version: int = VERSION
    """Of this schema."""
    name: str = MISSING
    seed: int = 0
    """Of data order, initial weights and dropout."""
    out: str = "runs/${name}"
    """The run's folder."""
    model: Any = MISSING
    """`name:` picks the architecture, the rest is its Config."""
    stages: list[Stage] = MISSING
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    feature_cache: FeatureCacheConfig | None = None
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    gallery: int = 24
    """Questions shown with pictures on the report page."""

    def __post_init__(self) -> None:
        check_fields(self, version=at_least(1), seed=at_least(0), gallery=at_least(0))
