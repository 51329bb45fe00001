"""VQAv2 in its official layout: questions and annotations as JSON, COCO's pictures; answers become classes."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from mmret.data.shards import Sample
from mmret.data.sources.image_folder import ImageFolder
from mmret.data.sources.labelled.split import LabelledSplit, build_split, check_options, write_classes
from mmret.data.sources.labelled.vqa_answers import frequent_answers, soft_scores
from mmret.data.sources.record import Built, Counts
from mmret.data.sources.track import Track, untracked
from mmret.errors import ConfigError, SampleError

logger = logging.getLogger(__name__)

PARTS = {
    "train": ("train2014", "train2014"),
    "val": ("val2014", "val2014"),
    "test_dev": ("test-dev2015", "test2015"),
    "test": ("test2015", "test2015"),
}
"""Split -> name of its questions, name of its picture folder."""
PUBLISHED_CLASSES = {9: 3129}
"""Least number of occurrences -> answers that the published train and val have."""


@dataclass
class VQAv2Config:
    """The options of `mmret data build vqav2`."""

    annotations: str = MISSING
    """Folder of v2_OpenEnded_mscoco_*_questions.json and v2_mscoco_*_annotations.json, both of train and val."""
    images: str = MISSING
    """Folder of the pictures: train2014/, val2014/, test2015/ below it."""
    out: str = "data/vqav2"
    """Folder for shards and tables; the data specs look for it in the variable MMRET_VQAV2."""
    splits: list[str] = field(default_factory=list)
    """train, val, test_dev, test; none: all whose questions are there."""
    min_answers: int = 9
    """An answer is a class if it is the most common one of at least so many questions of train and val."""
    limit: int | None = None
    """Only the first so many questions of each split; the classes are those of all."""
    max_side: int | None = None
    """Pictures with a longer side than this many pixels are scaled down; null: bytes are copied."""
    max_px: int | None = None
    """Pictures whose shorter side is longer than this are scaled down to it, format kept: twice the training size."""
    skip_missing_images: bool = False
    """Leave out questions whose picture is missing or broken, instead of stopping."""
    workers: int = 8
    """Threads that read pictures ahead."""

    def __post_init__(self) -> None:
        check_options("vqav2", self, list(PARTS))
        if self.min_answers < 1:
            raise ConfigError(f"vqav2: min_answers must be at least 1, got {self.min_answers}")


def build_vqav2(config: VQAv2Config, track: Track = untracked) -> list[Built]:
    """Write classes.txt, then every split that is not finished yet.

    Training rows without an answer among the classes are left out; validation keeps them, as they count as lost.

    Raises:
        ConfigError: files are missing, or hold something else.
        SampleError: a question has no annotation, or its picture is not there.
    """
    folder = Path(config.annotations)
    wanted = config.splits or [split for split in PARTS if _questions_file(folder, split).is_file()]
    if not wanted:
        raise ConfigError(f"{folder}: no {_questions_file(folder, 'train').name} nor questions of another split")
    annotations = {split: _read(_annotations_file(folder, split), "annotations") for split in ("train", "val")}
    classes = frequent_answers(
        (row["multiple_choice_answer"] for rows in annotations.values() for row in rows), config.min_answers
    )
    published = PUBLISHED_CLASSES.get(config.min_answers)
    if published not in (None, len(classes)):
        logger.warning("vqav2: %d answers, the published files give %d; is a file cut?", len(classes), published)
    if len(classes) < 2:
        raise ConfigError(f"vqav2: {len(classes)} answers occur {config.min_answers} times or more; lower min_answers")
    out = Path(config.out)
    images = ImageFolder([Path(config.images)])
    splits = [_split(split, folder, annotations.get(split), classes, config.limit) for split in wanted]
    write_classes(classes, out)
    return [build_split(split, out, images, config, [config.min_answers, classes], track) for split in splits]


def _split(
    name: str, folder: Path, annotations: list[dict[str, Any]] | None, classes: Sequence[str], limit: int | None
) -> LabelledSplit:
    file, known, counts = _questions_file(folder, name), set(classes), Counts()
    answered = {row["question_id"]: row for row in annotations or ()}
    samples: list[Sample] = []
    pictures: dict[str, str] = {}
    part = PARTS[name][1]
    for number, question in enumerate(_read(file, "questions")[:limit]):
        counts.rows += 1
        try:
            id, image = int(question["question_id"]), str(int(question["image_id"]))
            row: dict[str, Any] = {"query": {"text": question["question"], "images": [image]}, "question_id": id}
        except (KeyError, TypeError, ValueError) as error:
            raise SampleError(
                f"{file}: questions[{number}] is no question ({type(error).__name__}: {error})"
            ) from error
        if annotations is not None:
            if id not in answered:
                raise SampleError(f"{file}: question {id} has no annotation in {_annotations_file(folder, name).name}")
            said = answered[id]
            scores = soft_scores([one["answer"] for one in said["answers"]])
            row["labels"] = {answer: score for answer, score in scores.items() if answer in known}
            row |= {key: said[key] for key in ("answer_type", "question_type") if key in said}
            if name == "train" and not row["labels"]:
                counts.leave_out("no answer among the classes", str(id))
                continue
        samples.append(Sample(str(id), row))
        pictures[image] = f"{part}/COCO_{part}_{int(image):012d}.jpg"
    files = [file, *([_annotations_file(folder, name)] if annotations is not None else [])]
    return LabelledSplit(f"vqav2/{name}", files, samples, pictures, counts)


def _questions_file(folder: Path, split: str) -> Path:
    return folder / f"v2_OpenEnded_mscoco_{PARTS[split][0]}_questions.json"


def _annotations_file(folder: Path, split: str) -> Path:
    return folder / f"v2_mscoco_{PARTS[split][0]}_annotations.json"


def _read(file: Path, key: str) -> list[dict[str, Any]]:
    if not file.is_file():
        raise ConfigError(
            f"{file}: no such file; the classes are made from train and val, so their annotations must lie beside the "
            "questions of each split that is built"
        )
    try:
        return json.loads(file.read_text(encoding="utf-8"))[key]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file}: not a file of VQA {key} ({type(error).__name__}: {error})") from error
