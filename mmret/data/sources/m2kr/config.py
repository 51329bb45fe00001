"""What to build from M2KR's published tables."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from mmret.data.sources.image_folder import check_scaling
from mmret.data.sources.m2kr.facts import SPLITS
from mmret.errors import ConfigError


@dataclass
class M2KRConfig:
    """The options of `mmret data build m2kr`."""

    tables: str = MISSING
    """Folder of the tables: EVQA_data/test-00000-of-00001.parquet, EVQA_passages/..., as on the hub."""
    out: str = MISSING
    """Folder for shards and tables; the data specs look for it in the variable MMRET_M2KR."""
    images: str | None = None
    """Folder of the pictures: EVQA/, OKVQA/, ... below it. Needed for all sets but MSMARCO."""
    datasets: list[str] = field(default_factory=list)
    """Of the ten; none: all whose tables are there."""
    splits: list[str] = field(default_factory=list)
    """train, valid, test; none: all that are there."""
    limit: int | None = None
    """Only the first so many rows of each split, and of its passages those that answer them and as many others."""
    sample: int | None = None
    """Only so many rows of each split, drawn at random (always the same ones), with all passages."""
    max_side: int | None = None
    """Pictures with a longer side than this many pixels are scaled down; null: bytes are copied."""
    max_px: int | None = None
    """Pictures whose shorter side is longer than this are scaled down to it, format kept: twice the training size."""
    draw_instructions: bool = False
    """Leave the rows' instructions out of train, so that training draws one of the spec's templates for each row."""
    skip_missing_images: bool = False
    """Leave out rows whose picture is missing or broken, instead of stopping."""
    force: bool = False
    """Build although the checks say that the tables are wrong."""
    workers: int = 8
    """Threads that read pictures ahead."""
    slice: str | None = None
    """Build only this share of the splits, the largest dealt out first: 3/16, or slurm (by the job array)."""

    def __post_init__(self) -> None:
        for split in self.splits:
            if split not in SPLITS:
                raise ConfigError(f"m2kr: no split {split!r}; known: {', '.join(SPLITS)}")
        for name in ("limit", "sample", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"m2kr: {name} must be at least 1, got {value}")
        check_scaling("m2kr", self)
        if self.limit is not None and self.sample is not None:
            raise ConfigError("m2kr: limit (the first rows) and sample (rows at random) exclude each other")
