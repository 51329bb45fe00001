"""What to build from a Karpathy split file."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from mmret.data.sources.image_folder import check_scaling
from mmret.data.sources.karpathy.annotations import SPLITS
from mmret.errors import ConfigError


@dataclass
class KarpathyConfig:
    """The options of `mmret data build karpathy`."""

    annotations: str = MISSING
    """The split file: dataset_coco.json or dataset_flickr30k.json."""
    images: str = MISSING
    """Folder of the pictures: train2014/ and val2014/ below it (COCO), or the pictures themselves (Flickr30k)."""
    out: str | None = None
    """Folder for shards and tables; null: data/coco, data/flickr30k. The data specs look for it in the variables
    MMRET_COCO and MMRET_FLICKR30K."""
    splits: list[str] = field(default_factory=list)
    """train (with restval), val, test; none: all three."""
    limit: int | None = None
    """Only the first so many pictures of each split."""
    max_side: int | None = None
    """Pictures with a longer side than this many pixels are scaled down; null: bytes are copied."""
    max_px: int | None = None
    """Pictures whose shorter side is longer than this are scaled down to it, format kept: twice the training size."""
    skip_missing_images: bool = False
    """Leave out pictures that are missing or broken, with their captions, instead of stopping."""
    workers: int = 8
    """Threads that read pictures ahead."""

    def __post_init__(self) -> None:
        for split in self.splits:
            if split not in SPLITS:
                raise ConfigError(
                    f"karpathy: no split {split!r}; known: {', '.join(SPLITS)} (restval is part of train)"
                )
        for name in ("limit", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"karpathy: {name} must be at least 1, got {value}")
        check_scaling("karpathy", self)
