"""What to build from MMEB-V2's published tables, pages and frames."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from mmret.data.sources.image_folder import check_scaling
from mmret.errors import ConfigError


@dataclass
class MMEBV2Config:
    """The options of `mmret data build mmeb_v2`."""

    tables: str = MISSING
    """Folder with a folder for each set, named as the set (UCF101) or as its repository on the hub
    (arxivqa_test_subsampled_beir): parquet, jsonl or json files as they lie there."""
    frames: str | None = None
    """Folder of the videos' frames, MMEB-V2's video-tasks/frames: video_cls/UCF101/VIDEO/*.jpg and so on below it.
    Video sets need it."""
    images: str | None = None
    """Folder of pages as SET/PAGE.png, for document tables that hold no pictures."""
    out: str = "data/mmeb_v2"
    """Folder for shards and tables; the benchmarks look for it in the variable MMRET_MMEB_V2."""
    datasets: list[str] = field(default_factory=list)
    """Sets by their names or those of our specs (K700, vidore_arxivqa); none: all whose tables are there."""
    num_frames: int = 8
    """Frames kept of each video, spread evenly; all published numbers of VLM2Vec 2 are of 8."""
    limit: int | None = None
    """Only the first so many queries of each set; a corpus of pages stays whole."""
    max_side: int | None = None
    """Pictures with a longer side than this many pixels are scaled down; null: bytes are copied."""
    max_px: int | None = None
    """Pictures whose shorter side is longer than this are scaled down to it, format kept: twice the training size."""
    skip_missing_images: bool = False
    """Leave out rows that missing or broken frames, pictures or documents belong to, instead of stopping."""
    workers: int = 8
    """Threads that read pictures ahead."""
    slice: str | None = None
    """Build only this share of the sets, the largest dealt out first: 3/16, or slurm (by the job array)."""

    def __post_init__(self) -> None:
        for name in ("limit", "workers", "num_frames"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"mmeb_v2: {name} must be at least 1, got {value}")
        check_scaling("mmeb_v2", self)
