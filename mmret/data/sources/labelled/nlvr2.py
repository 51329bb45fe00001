"""NLVR2 in its official layout: a JSON line per sentence, two pictures each, true or false."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from mmret.data.shards import Sample
from mmret.data.sources.image_folder import ImageFolder
from mmret.data.sources.labelled.split import LabelledSplit, build_split, check_options, write_classes
from mmret.data.sources.record import Built, Counts
from mmret.data.sources.track import Track, untracked
from mmret.errors import ConfigError, SampleError

SPLITS = ("train", "dev", "test1")
CLASSES = ("False", "True")
"""In the order of the outputs of ViLT's and VLMo's heads."""


@dataclass
class NLVR2Config:
    """The options of `mmret data build nlvr2`."""

    annotations: str = MISSING
    """Folder of train.json, dev.json, test1.json (nlvr2/data of the published repository)."""
    images: str = MISSING
    """Folder of the pictures: train/<directory>/, dev/, test1/ below it, also below images/."""
    out: str = "data/nlvr2"
    """Folder for shards and tables; the data specs look for it in the variable MMRET_NLVR2."""
    splits: list[str] = field(default_factory=list)
    """train, dev, test1; none: all that are there."""
    limit: int | None = None
    """Only the first so many sentences of each split."""
    max_side: int | None = None
    """Pictures with a longer side than this many pixels are scaled down; null: bytes are copied."""
    max_px: int | None = None
    """Pictures whose shorter side is longer than this are scaled down to it, format kept: twice the training size."""
    skip_missing_images: bool = False
    """Leave out sentences with a picture that is missing or broken, instead of stopping."""
    workers: int = 8
    """Threads that read pictures ahead."""

    def __post_init__(self) -> None:
        check_options("nlvr2", self, SPLITS)


def build_nlvr2(config: NLVR2Config, track: Track = untracked) -> list[Built]:
    """Write classes.txt, then every split that is not finished yet.

    Raises:
        ConfigError: files are missing.
        SampleError: a row is broken, or one of its pictures is not there.
    """
    folder, out = Path(config.annotations), Path(config.out)
    wanted = config.splits or [split for split in SPLITS if (folder / f"{split}.json").is_file()]
    if not wanted:
        raise ConfigError(f"{folder}: neither of {', '.join(f'{split}.json' for split in SPLITS)}")
    images = ImageFolder([Path(config.images)], ("", "images"))
    splits = [_split(split, folder / f"{split}.json", config.limit) for split in wanted]
    write_classes(CLASSES, out)
    return [build_split(split, out, images, config, None, track) for split in splits]


def _split(name: str, file: Path, limit: int | None) -> LabelledSplit:
    if not file.is_file():
        raise ConfigError(f"{file}: no such file")
    counts, samples, pictures = Counts(), [], {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines()[:limit], 1):
        if not line.strip():
            continue
        counts.rows += 1
        row = _row(file, number, line)
        pair = row["identifier"].rpartition("-")[0]
        # Training pictures lie in numbered folders, the others in their split's.
        place = f"{name}/{row['directory']}" if "directory" in row else name
        ids = [f"{pair}-img{side}" for side in range(2)]
        pictures |= {id: f"{place}/{id}.png" for id in ids}
        json_row: dict[str, Any] = {"query": {"text": row["sentence"], "images": ids}}
        if "label" in row:
            json_row["label"] = row["label"]
        samples.append(Sample(row["identifier"], json_row | {"question_id": row["identifier"]}))
    return LabelledSplit(f"nlvr2/{name}", [file], samples, pictures, counts)


def _row(file: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise SampleError(f"{file}:{number}: no JSON ({error}); want a row of NLVR2 on each line") from error
    if not isinstance(row, dict) or not {"identifier", "sentence"} <= row.keys():
        raise SampleError(f"{file}:{number}: no row of NLVR2; want an object with identifier and sentence")
    if "label" in row:
        row["label"] = str(row["label"]).capitalize()
        if row["label"] not in CLASSES:
            raise SampleError(f"{file}:{number}: label is {row['label']!r}; want {' or '.join(CLASSES)}")
    return row
