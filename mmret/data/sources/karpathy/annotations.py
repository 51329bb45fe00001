"""The split file: which pictures there are, what their captions say, and to which split they belong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmret.errors import ConfigError, SampleError

SPLITS = ("train", "val", "test")
_SPLIT_OF = {"train": "train", "restval": "train", "val": "val", "test": "test"}
# COCO: train 82,783 + restval 30,504; a few pictures have six or seven captions.
PUBLISHED = {
    "coco": {"train": 113_287, "val": 5_000, "test": 5_000},
    "flickr30k": {"train": 29_000, "val": 1_014, "test": 1_000},
}
"""Pictures in each split."""


@dataclass(frozen=True)
class Caption:
    """One sentence about a picture."""

    id: str
    """`sentid`."""
    text: str


@dataclass(frozen=True)
class Picture:
    """A picture and what was written about it."""

    id: str
    """`cocoid`; where there is none, `imgid`."""
    path: str
    """Below the picture folder."""
    captions: tuple[Caption, ...]
    """Those that are not empty."""
    num_empty: int = 0
    """Captions that are."""


@dataclass(frozen=True)
class Annotations:
    """A whole split file."""

    file: Path
    dataset: str
    """coco, flickr30k."""
    splits: Mapping[str, list[Picture]]

    def unlike_published(self, splits: list[str]) -> list[str]:
        """What is to be said about splits with another number of pictures than published."""
        published = PUBLISHED.get(self.dataset, {})
        return [
            f"{self.file.name}: {len(self.splits[split]):,} pictures in {split}, published: {published[split]:,}; "
            "results will not be comparable"
            for split in splits
            if split in published and len(self.splits[split]) != published[split]
        ]


def read_annotations(file: str | Path) -> Annotations:
    """Read dataset_coco.json or dataset_flickr30k.json.

    Raises:
        ConfigError: there is no such file, or it is none of these.
        SampleError: a picture lacks a field, belongs to an unknown split, or its id stands twice in the file.
    """
    file = Path(file)
    if not file.is_file():
        raise ConfigError(
            f"{file}: no such file; the Karpathy splits are dataset_coco.json and dataset_flickr30k.json "
            "in caption_datasets.zip"
        )
    try:
        with file.open("rb") as stream:
            # The words of each caption stand there a second time, and would take most of the memory.
            tree = json.load(stream, object_hook=lambda row: {k: v for k, v in row.items() if k != "tokens"})
    except ValueError as error:
        raise ConfigError(f"{file}: not JSON ({error}); download it again") from error
    rows = tree.get("images") if isinstance(tree, dict) else None
    if not isinstance(rows, list) or not rows:
        raise ConfigError(f'{file}: no Karpathy split file; want {{"dataset": "coco", "images": [...]}}')
    splits: dict[str, list[Picture]] = {split: [] for split in SPLITS}
    seen: set[str] = set()
    for number, row in enumerate(rows):
        where = f"{file.name}: images[{number}]"
        picture, split = _picture(row, where)
        if picture.id in seen:
            raise SampleError(f"{where} has id {picture.id}, as another picture of the file has")
        seen.add(picture.id)
        splits[split].append(picture)
    return Annotations(file, str(tree.get("dataset") or file.stem.removeprefix("dataset_")).lower(), splits)


def _picture(row: Any, where: str) -> tuple[Picture, str]:
    """A picture, and its split."""
    if not isinstance(row, dict):
        raise SampleError(f"{where} is {type(row).__name__}, want an object")
    name = row.get("filename")
    if not name:
        raise SampleError(f"{where} has no filename (has: {', '.join(row)})")
    split = _SPLIT_OF.get(row.get("split", ""))
    if split is None:
        raise SampleError(f"{where} ({name}) is of split {row.get('split')!r}; known: {', '.join(_SPLIT_OF)}")
    id = row.get("cocoid", row.get("imgid"))
    if id is None:
        raise SampleError(f"{where} ({name}) has neither cocoid nor imgid")
    sentences = row.get("sentences")
    if not isinstance(sentences, list):
        raise SampleError(f"{where} ({name}) has no sentences")
    captions = []
    for place, sentence in enumerate(sentences):
        if not isinstance(sentence, dict) or not isinstance(sentence.get("raw"), str) or "sentid" not in sentence:
            raise SampleError(f"{where} ({name}): sentences[{place}] lacks raw or sentid")
        captions.append(Caption(str(sentence["sentid"]), sentence["raw"].strip()))
    kept = tuple(caption for caption in captions if caption.text)
    path = "/".join(part for part in (row.get("filepath"), name) if part)
    return Picture(str(id), path, kept, len(captions) - len(kept)), split
