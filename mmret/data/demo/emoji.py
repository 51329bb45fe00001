"""Emoji: pictures and captions; splits by concept (whole subgroups) and by artist, and the files of the emoji specs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmret.data.demo.choice import pick, shuffled
from mmret.data.demo.concepts import Concept, load_concepts, picture
from mmret.data.shards import Sample, write_shards
from mmret.data.table import write_table

TRAIN_STYLES = ("noto", "twemoji", "noto1", "fxemoji")
VALIDATION_STYLE = "emojione"
UNSEEN_STYLE = "fluent"
UNSEEN_SUBGROUPS = (
    *(
        "animal-bird",
        "plant-flower",
        "food-asian",
        "drink",
        "transport-water",
        "time",
        "musical-instrument",
        "lock",
        "tool",
    ),
)
"""Held out whole: a random tenth of the concepts would leave a near-twin of each in training."""
TO_TEXT = "Find the name and keywords of this picture."
TO_IMAGE = "Find a picture of this."
_NEGATIVES = 4
_QUERIES = 300


@dataclass(frozen=True)
class Emoji:
    """All concepts with their drawings, and what of them trains."""

    concepts: Sequence[Concept]
    sets: Mapping[str, Any]
    """Style -> parsed icon set."""

    @property
    def known(self) -> list[Concept]:
        """Concepts that training shows."""
        return [concept for concept in self.concepts if concept.subgroup not in UNSEEN_SUBGROUPS]

    @property
    def unseen(self) -> list[Concept]:
        """Concepts of the held-out subgroups."""
        return [concept for concept in self.concepts if concept.subgroup in UNSEEN_SUBGROUPS]

    def pictures(self, concepts: Iterable[Concept], styles: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Table rows with ids like "noto/red-apple", style by style."""
        concepts = list(concepts)
        for style in styles:
            for concept in concepts:
                if style in concept.icons:
                    image = picture(concept, style, self.sets)
                    yield {"id": f"{style}/{concept.id}", "image": image, "style": style, "concept": concept.id}

    def train(self) -> Iterator[Sample]:
        """Picture to caption, each training picture once."""
        known = self.known
        rows = shuffled(((c.id, style) for c in known for style in TRAIN_STYLES if style in c.icons), "emoji row")
        by_id = {concept.id: concept for concept in known}
        for number, (id, style) in enumerate(rows):
            concept = by_id[id]
            query = {"images": [f"{style}/{id}"]}
            negatives = [other.id for other in self._others(concept, known, str(number))]
            yield Sample(f"{number:05d}", _row(query, [id], concept, style) | {"negatives": negatives})

    def train_to_image(self) -> Iterator[Sample]:
        """Caption to pictures, each training concept once; all its training drawings are right."""
        known = self.known
        for number, concept in enumerate(sorted(known, key=lambda c: shuffled([c.id], "to image"))):
            drawn = [f"{style}/{concept.id}" for style in TRAIN_STYLES if style in concept.icons]
            others = self._others(concept, known, f"to image {number}")
            negatives = [f"{pick([s for s in TRAIN_STYLES if s in o.icons], 1, o.id)[0]}/{o.id}" for o in others]
            yield Sample(f"i{number:05d}", _row({"text": concept.caption}, drawn, concept) | {"negatives": negatives})

    def inline(self, concepts: Iterable[Concept], styles: Sequence[str]) -> Iterator[Sample]:
        """Picture to caption for evaluation, the picture within the sample."""
        for concept in concepts:
            for style in styles:
                if style in concept.icons:
                    query = {"instruction": TO_TEXT, "images": ["q.0.webp"]}
                    row = _row(query, [concept.id], concept, style)
                    yield Sample(f"{style}-{concept.id}", row, {"q.0.webp": picture(concept, style, self.sets)})

    def unseen_style(self, concepts: Iterable[Concept]) -> Iterator[Sample]:
        """Picture to caption for evaluation, the picture by its id in the table of the unseen style."""
        for concept in concepts:
            query = {"instruction": TO_TEXT, "images": [f"{UNSEEN_STYLE}/{concept.id}"]}
            yield Sample(f"{UNSEEN_STYLE}-{concept.id}", _row(query, [concept.id], concept, UNSEEN_STYLE))

    def to_image(self, concepts: Iterable[Concept]) -> Iterator[Sample]:
        """Caption to picture for evaluation, among the pictures of the unseen style."""
        for concept in concepts:
            query = {"instruction": TO_IMAGE, "text": concept.caption}
            yield Sample(f"text-{concept.id}", _row(query, [f"{UNSEEN_STYLE}/{concept.id}"], concept))

    def _others(self, concept: Concept, known: Sequence[Concept], salt: str) -> list[Concept]:
        """Negatives: some of the same subgroup, some of anywhere else."""
        near = [other for other in known if other.subgroup == concept.subgroup and other is not concept]
        far = [other for other in known if other.subgroup != concept.subgroup]
        by_id = {other.id: other for other in known}
        ids = pick([o.id for o in near], _NEGATIVES, salt) + pick([o.id for o in far], _NEGATIVES, salt)
        return [by_id[id] for id in ids]


def write_emoji(folders: Mapping[str, Path], out: Path) -> None:
    """All tables and shards of the emoji specs; `folders`: package name -> unpacked folder."""
    emoji = Emoji(*load_concepts(folders))
    captions = (
        {"id": c.id, "text": c.caption, "label": c.label, "group": c.group, "subgroup": c.subgroup}
        for c in emoji.concepts
    )
    write_table(captions, out / "captions.arrow", compress=True)
    write_table(emoji.pictures(emoji.known, TRAIN_STYLES), out / "train_images.arrow")
    write_table(emoji.pictures(emoji.concepts, (UNSEEN_STYLE,)), out / "unseen_style_images.arrow")
    by_id = {concept.id: concept for concept in emoji.known}
    asked = [by_id[id] for id in pick(by_id, _QUERIES, "emoji query")]
    files: dict[str, Iterable[Sample]] = {
        "train": emoji.train(),
        "train_to_image": emoji.train_to_image(),
        "validation": emoji.inline(asked, (VALIDATION_STYLE,)),
        "unseen_style": emoji.unseen_style(asked),
        "unseen_concept": emoji.inline(emoji.unseen, TRAIN_STYLES[:2]),
        "unseen_both": emoji.unseen_style(emoji.unseen),
        "to_image_unseen_style": emoji.to_image(asked),
        "to_image_unseen_both": emoji.to_image(emoji.unseen),
    }
    for name, samples in files.items():
        write_shards(samples, out, name, max_samples=100_000, compress=True)


def _row(query: Mapping[str, Any], positives: list[str], concept: Concept, style: str | None = None) -> dict[str, Any]:
    row = {"query": query, "positives": positives, "label": concept.label, "group": concept.group}
    return row | ({"style": style} if style else {})
