"""What a recipe may say. Dataclasses are the only schema; `load.py` merges YAML into them and checks across fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from mmret.errors import ConfigError
from mmret.recipe.rules import (
    FOLDER_NAME,
    FRACTION,
    FRACTIONS,
    REGEXES,
    above,
    at_least,
    check_fields,
    is_count_or,
    one_of,
)

VERSION = 1
"""Newest schema version that this code reads."""


@dataclass
class SourceConfig:
    """One source of a mixture. In YAML a bare number is its weight."""

    weight: float = 1.0
    """Share of the batches, relative to the other sources; 0 leaves the source out."""
    max_samples: int | None = None
    """Use only the first so many samples of the source (in its own order, before any shuffle)."""

    def __post_init__(self) -> None:
        check_fields(self, weight=at_least(0), max_samples=at_least(1))


@dataclass
class MaskingConfig:
    """BERT's masked tokens (Devlin et al. 2019, Sec. 3.1), whole words at a time; of stages with an `mlm` objective."""

    rule: str = "whole_word"
    """whole_word: the share is of a text's own tokens, at least a word of each text. vlmo: as in VLMo's released code,
    the share is of the padded length and padding competes, so short texts often get none."""
    fraction: float = 0.15
    """Share of tokens to guess."""

    def __post_init__(self) -> None:
        check_fields(self, rule=one_of("whole_word", "vlmo"), fraction=FRACTION)


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
    masking: MaskingConfig = field(default_factory=MaskingConfig)

    def __post_init__(self) -> None:
        check_fields(
            self,
            batch_size=at_least(1),
            documents_per_query=at_least(1),
            block_size=at_least(1),
            shuffle_window=at_least(0),
            num_workers=at_least(0),
            max_bad_fraction=FRACTION,
        )


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

    def __post_init__(self) -> None:
        check_fields(self, lr=above(0), weight_decay=at_least(0), betas=FRACTIONS, eps=above(0), no_decay=REGEXES)


@dataclass
class ScheduleConfig:
    """Learning rate over the stage's steps."""

    name: str = "linear"
    """constant | linear | cosine: the shape after warm-up."""
    warmup_steps: int = 0
    final_fraction: float = 0.0
    """Where linear and cosine end, as a share of the peak."""

    def __post_init__(self) -> None:
        check_fields(
            self, name=one_of("constant", "linear", "cosine"), warmup_steps=at_least(0), final_fraction=FRACTION
        )


@dataclass
class GradCacheConfig:
    """Encode a batch in chunks whose graphs need not fit in memory together (Gao et al. 2021). One of the two sizes."""

    chunk_size: int | None = None
    """Rows per chunk."""
    tokens_per_chunk: int | None = None
    """Tokens per chunk, padding included; rows are sorted by length first."""
    keep_graph: int = 0
    """So many chunks of each batch keep their graph: as many as memory allows; they are not computed twice."""

    def __post_init__(self) -> None:
        check_fields(self, chunk_size=at_least(1), tokens_per_chunk=at_least(1), keep_graph=at_least(0))
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
    lr_scale: dict[str, float] = field(default_factory=lambda: {".*": 1.0})
    """Ordered regexes, searched in parameter names ("model.text.", "objectives.itc."): first match wins, 0 freezes."""
    model: dict[str, Any] = field(default_factory=dict)
    """Fields of the model section that this stage changes (PreFLMR: text left out of the score, encoders separate)."""
    init_from: str | None = "previous"
    """previous | a folder | null (as the model section says)."""

    validation: MixtureConfig | None = None
    """Held-back data whose loss is logged as val/loss at each evaluation in training and at the end of the stage."""
    validation_batches: int = 20
    """Batches of it; always the same ones."""
    grad_cache: GradCacheConfig | None = None
    """Batches larger than memory: exact gradient, about a third more computation."""

    def __post_init__(self) -> None:
        check_fields(self, name=FOLDER_NAME, steps=at_least(1), validation_batches=at_least(1))


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

    def __post_init__(self) -> None:
        check_fields(
            self,
            accelerator=one_of("auto", "cpu", "gpu", "cuda", "mps"),
            devices=is_count_or("auto"),
            num_nodes=at_least(1),
            strategy=one_of("auto", "ddp"),
            precision=one_of("32-true", "bf16-mixed", "16-mixed"),
            accumulate=at_least(1),
            clip_norm=above(0),
            log_every=at_least(1),
            checkpoint_every=at_least(1),
            evaluate_every=at_least(1),
            threads=at_least(1),
        )


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
