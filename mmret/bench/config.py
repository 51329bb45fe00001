"""What a bench file may say."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from mmret.errors import ConfigError
from mmret.recipe.rules import FOLDER_NAME, Rule, above, at_least, check_fields, one_of

FULL, TINY = "full", "tiny"
"""Sizes. Where size is tiny, what the file's `tiny:` section says replaces the same keys, and of a variant its `tiny:`
section alone counts."""
NAMES = Rule(lambda names: all(map(FOLDER_NAME.holds, names)), f"names {FOLDER_NAME.wanted}")
DISTINCT = Rule(lambda seeds: bool(seeds) and len(set(seeds)) == len(seeds), "at least one, all different")


@dataclass
class Budget:
    """How long each variant trains, whatever its recipe says; exactly one. Its stages keep their shares of it."""

    steps: int | None = None
    """Optimizer steps of all stages together."""
    samples: int | None = None
    """Rows (queries, with their documents) that all stages together train on."""
    seconds: float | None = None
    """Of training on this machine, without evaluation; steps follow from a short trial run."""
    flops: float | None = None
    """Floating-point operations of training, as torch counts them; steps follow from those of one step."""

    def __post_init__(self) -> None:
        check_fields(self, steps=at_least(1), samples=at_least(1), seconds=above(0), flops=above(0))
        given = [name for name in ("steps", "samples", "seconds", "flops") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ConfigError(f"budget wants exactly one of steps, samples, seconds and flops, got {len(given)}")

    @property
    def kind(self) -> str:
        """Which of the four is given."""
        return next(name for name in ("steps", "samples", "seconds", "flops") if getattr(self, name) is not None)

    @property
    def amount(self) -> float:
        """How many of them."""
        return float(getattr(self, self.kind))


@dataclass
class Variant:
    """One line of the table: a recipe and what is changed in it."""

    recipe: str | None = None
    """Shipped name, or a file seen from the working folder or the bench file's; null: the bench's."""
    overrides: list[str] = field(default_factory=list)
    """As after `mmret run RECIPE`; after the bench's. Those that change data.sources are told in the table."""
    share: float = 1.0
    """Of the budget; other than 1 where the length of training is what is compared."""
    environ: dict[str, str] = field(default_factory=dict)
    """Variables that its processes get: where data specs find the same sets packed otherwise. Told as other data."""

    def __post_init__(self) -> None:
        check_fields(self, share=above(0))


@dataclass
class BenchEvaluation:
    """What every variant is measured on; empty: what its recipe says, which must then be the same for all."""

    benchmarks: list[str] = field(default_factory=list)
    """As in a recipe: "demo/emoji", or one split, "demo/emoji/unseen_style"."""
    validation: list[str] = field(default_factory=list)
    """Measured too; a sweep chooses by these alone."""
    controls: bool = False
    """Measure the benchmarks' controls as well."""

    def __post_init__(self) -> None:
        if self.validation and not self.benchmarks:
            raise ConfigError("benchmarks is empty; name what is measured beside the validation sets")


@dataclass
class Bench:
    """Variants on the same data, budget and evaluation."""

    name: str = MISSING
    size: str = FULL
    """full | tiny"""
    out: str = "runs/bench/${name}"
    """Its folder; a run is <out>/<variant>/seed-<n>."""
    seeds: list[int] = field(default_factory=lambda: [0])
    budget: Budget | None = None
    """null: each variant trains as long as its recipe says."""
    recipe: str | None = None
    """Of the variants that name none."""
    sources: dict[str, float] = field(default_factory=dict)
    """Training data of all stages of all variants, by weight; empty: what the recipes say."""
    overrides: list[str] = field(default_factory=list)
    """Applied to every variant."""
    variants: dict[str, Variant] = MISSING
    evaluation: BenchEvaluation = field(default_factory=BenchEvaluation)
    primary: str = MISSING
    """The metric by which variants are compared: benchmark/split/metric ("demo/emoji/unseen_style/recall@1")."""

    def __post_init__(self) -> None:
        check_fields(self, name=FOLDER_NAME, size=one_of(FULL, TINY), seeds=DISTINCT, variants=NAMES)
        if any(seed < 0 for seed in self.seeds):
            raise ConfigError(f"seeds must be >= 0, got {self.seeds}")
        if not self.variants:
            raise ConfigError("variants is empty; name at least one")
        lost = [name for name, variant in self.variants.items() if not (self.recipe or variant.recipe)]
        if lost:
            raise ConfigError(f"variants {', '.join(lost)}: no recipe, and the bench names none for all")
