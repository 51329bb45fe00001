"""What to build from MMEB's published tables."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from mmret.data.sources.image_folder import check_scaling
from mmret.errors import ConfigError

WORDINGS = ("original", "diverse_instruction", "none")
"""What `instructions` may say."""


@dataclass
class MMEBConfig:
    """The options of `mmret data build mmeb`."""

    tables: str = MISSING
    """Folder of the training or of the evaluation tables, as on the hub: ImageNet_1K/original-00000-of-00001.parquet,
    or ImageNet-1K/test-00000-of-00001.parquet. Build both into one --out, one after the other."""
    images: str = MISSING
    """Folder below which the tables' picture paths lie, itself or in its subfolder images/ or MMEB/."""
    out: str = "data/mmeb"
    """Folder for shards and tables; the data specs look for it in the variable MMRET_MMEB."""
    datasets: list[str] = field(default_factory=list)
    """Sets by the names of their folders or of our specs (ImageNet-1K, imagenet_1k); none: all whose tables are
    there."""
    instructions: str = "original"
    """Of the training tables: original, the task's one instruction; diverse_instruction, one of ten wordings. none
    leaves the instructions out of training and evaluation (for the ablation; give it an --out of its own)."""
    limit: int | None = None
    """Only the first so many rows of each set."""
    max_side: int | None = None
    """Pictures with a longer side than this many pixels are scaled down; null: bytes are copied."""
    max_px: int | None = None
    """Pictures whose shorter side is longer than this are scaled down to it, format kept: twice the training size."""
    skip_missing_images: bool = False
    """Leave out rows that a missing or broken picture belongs to, instead of stopping."""
    workers: int = 8
    """Threads that read pictures ahead."""
    slice: str | None = None
    """Build only this share of the sets, the largest dealt out first: 3/16, or slurm (by the job array)."""

    def __post_init__(self) -> None:
        if self.instructions not in WORDINGS:
            raise ConfigError(f"mmeb: instructions must be one of {', '.join(WORDINGS)}, got {self.instructions!r}")
        for name in ("limit", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"mmeb: {name} must be at least 1, got {value}")
        check_scaling("mmeb", self)
