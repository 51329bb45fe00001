"""Controls: what a model reaches when a part of the query is taken away, or swapped, tells what the part is worth."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace
from PIL import Image

from mmret.errors import ConfigError
from mmret.evaluation.split import QuerySplit
from mmret.types import Content, EncodedImage

NO_QUESTION = "?"
"""Stands for the question in `image_only`: processors want some text, and this one asks nothing."""

SHUFFLE_SEED = 0

_GREY = EncodedImage.of(Image.new("RGB", (32, 32), (128, 128, 128)), "grey")


@dataclass(frozen=True)
class QuestionOnly:
    """Queries without their images, all of them: a processor then makes a text-only query."""

    split: QuerySplit

    def __call__(self, row: int) -> Content:
        return replace(self.split.content(row), images=(), video=None)


@dataclass(frozen=True)
class GreyImages:
    """Queries whose images are all grey: heads that read text and image together cannot do without one."""

    split: QuerySplit

    def __call__(self, row: int) -> Content:
        content = self.split.content(row)
        return replace(content, images=(_GREY,) * len(content.images))


@dataclass(frozen=True)
class ImageOnly:
    """Queries whose text is `NO_QUESTION`; the instruction stays, it is the same for all."""

    split: QuerySplit

    def __call__(self, row: int) -> Content:
        return replace(self.split.content(row), text=NO_QUESTION)


@dataclass(frozen=True)
class ShuffledImages:
    """Each query with the image of another query that shows something else (`QuerySplit.pictures`)."""

    split: QuerySplit
    donors: tuple[int, ...]
    """Whose image each query gets."""

    @classmethod
    def of(cls, split: QuerySplit) -> ShuffledImages:
        """With donors drawn once, by a fixed seed."""
        return cls(split, tuple(derangement(split.pictures, SHUFFLE_SEED)))

    def __call__(self, row: int) -> Content:
        content = self.split.content(row)
        donor = self.donors[row]
        return content if donor == row else replace(content, images=self.split.content(donor).images)


def question_only(split: QuerySplit) -> Callable[[int], Content]:
    """No images to search with, grey ones to classify."""
    return GreyImages(split) if split.benchmark.classifies else QuestionOnly(split)


QUERY_CONTROLS: dict[str, Callable[[QuerySplit], Callable[[int], Content]]] = {
    "question_only": question_only,
    "image_only": ImageOnly,
    "shuffled_images": ShuffledImages.of,
}
"""Controls that change the queries."""


def control_contents(split: QuerySplit, control: str | None) -> Callable[[int], Content]:
    """Row -> query as the control wants it.

    Raises:
        ConfigError: the split's queries have no images for a control that is about them.
        SampleError: a query of the split is broken.
    """
    _ = split.queries  # a broken sample shows here, not in the middle of encoding
    if control is None or control == "untrained":
        return split.content
    if not any(picture is not None for picture in split.pictures):
        raise ConfigError(
            f"{split.where}: no query has an image, so the control {control} says nothing; "
            "remove it from `controls` or the split from `control_splits`"
        )
    return QUERY_CONTROLS[control](split)


def derangement(labels: Sequence[str | None], seed: int) -> list[int]:
    """For each row another row with another label, so that no row is taken more often than needed.

    Rows labelled None keep themselves. Where no label holds more than half of the rows the result is a permutation;
    else the rows of the others are taken in turn.

    Raises:
        ConfigError: fewer than two labels.
    """
    rows = [row for row, label in enumerate(labels) if label is not None]
    members: dict[str | None, list[int]] = {}
    for row in rows:
        members.setdefault(labels[row], []).append(row)
    if len(members) < 2:
        raise ConfigError(f"shuffled_images: all {len(rows)} images show the same ({next(iter(members), None)!r})")
    rng = random.Random(seed)
    groups = list(members.values())
    rng.shuffle(groups)
    for group in groups:
        rng.shuffle(group)
    donors = list(range(len(labels)))
    largest = max(map(len, groups))
    ordered = [row for group in groups for row in group]
    if 2 * largest <= len(ordered):
        # Groups lie side by side: a shift by the largest group's size leaves every group.
        for place, row in enumerate(ordered):
            donors[row] = ordered[(place + largest) % len(ordered)]
    else:
        for group in groups:
            others = [row for row in ordered if labels[row] != labels[group[0]]]
            for place, row in enumerate(group):
                donors[row] = others[place % len(others)]
    return donors
