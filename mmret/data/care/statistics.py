"""What is in a collection: counts, lengths of texts, sizes of pictures, and what is there more than once."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from mmret.data.care.collection import Collection
from mmret.data.care.parallel import Piece, pieces, work_on
from mmret.data.care.repeats import Hashes, Repeats, find_repeats
from mmret.data.classes import LABELS
from mmret.data.reader import RawSample
from mmret.data.scan import scan_shard
from mmret.data.sources.track import Track, untracked
from mmret.errors import SampleError
from mmret.types import Content, EncodedImage

QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
"""Shown of every distribution: least, 5 %, median, 95 %, most."""


@dataclass
class Side:
    """Queries, documents of the samples, or rows of a table."""

    num: int = 0
    with_text: int = 0
    with_pictures: int = 0
    with_video: int = 0
    with_instruction: int = 0
    words: Counter[int] = field(default_factory=Counter)
    """Words of a text -> how many texts."""
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    """(width, height) -> how many pictures."""
    formats: Counter[str] = field(default_factory=Counter)
    kilobytes: Counter[int] = field(default_factory=Counter)
    """Of a picture, rounded up."""

    def add(self, content: Content) -> None:
        """Count one; a picture's header is read, it is not decoded."""
        self.num += 1
        self.with_text += content.text is not None
        self.with_pictures += bool(content.images)
        self.with_video += content.video is not None
        self.with_instruction += content.instruction is not None
        if content.text is not None:
            self.words[len(content.text.split())] += 1
        for image in content.pictures:
            try:
                with Image.open(io.BytesIO(image.data)) as picture:
                    self.sizes[picture.size] += 1
                    self.formats[str(picture.format)] += 1
            except Exception:  # whatever Pillow's plugins raise: `mmret data check` says more
                self.formats["broken"] += 1
            self.kilobytes[-(-len(image.data) // 1000)] += 1

    def merge(self, other: Side) -> None:
        """Join with another part."""
        for name, value in vars(other).items():
            if isinstance(value, int):
                setattr(self, name, getattr(self, name) + value)
            else:
                getattr(self, name).update(value)

    def distributions(self) -> dict[str, Counter[float]]:
        """Label -> value -> count, of what there is."""
        shapes = self.sizes.items()
        found: dict[str, Counter[float]] = {
            "words": Counter(dict(self.words.items())),
            "shorter side, px": _weighted((min(size), n) for size, n in shapes),
            "longer side, px": _weighted((max(size), n) for size, n in shapes),
            "width / height": _weighted((round(size[0] / size[1], 3), n) for size, n in shapes),
            "picture, kB": Counter(dict(self.kilobytes.items())),
        }
        return {name: values for name, values in found.items() if values}


@dataclass
class Statistics:
    """What there is in a collection."""

    name: str = ""
    shards: int = 0
    bytes: int = 0
    samples: int = 0
    broken: int = 0
    """Samples that cannot be read, and are in none of the counts below."""
    sides: dict[str, Side] = field(default_factory=lambda: {"queries": Side(), "documents": Side(), "table": Side()})
    """Queries; documents that the samples bring themselves; rows of the documents table."""
    positives: Counter[int] = field(default_factory=Counter)
    """Positives of a sample -> how many samples."""
    negatives: Counter[int] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    repeats: list[Repeats] = field(default_factory=list)

    def merge(self, other: Statistics) -> None:
        """Join with a piece."""
        self.samples, self.broken = self.samples + other.samples, self.broken + other.broken
        for name, side in other.sides.items():
            self.sides[name].merge(side)
        for name in ("positives", "negatives", "labels"):
            getattr(self, name).update(getattr(other, name))

    def as_json(self) -> dict[str, Any]:
        """For programs: counts, quantiles of each distribution, repeats."""
        sides = {
            name: {
                **{key: value for key, value in vars(side).items() if isinstance(value, int)},
                "formats": dict(side.formats),
                **{label: quantiles(values) for label, values in side.distributions().items()},
            }
            for name, side in self.sides.items()
            if side.num
        }
        per_sample = {
            name: quantiles(values) for name, values in (("positives", self.positives), ("negatives", self.negatives))
        }
        facts = {key: getattr(self, key) for key in ("name", "shards", "bytes", "samples", "broken")}
        repeats = [vars(one) for one in self.repeats]
        return {
            **facts,
            "per sample": per_sample,
            **sides,
            "labels": dict(self.labels.most_common()),
            "repeats": repeats,
        }


def statistics(collection: Collection, workers: int | None = None, track: Track = untracked) -> Statistics:
    """Read everything once.

    Args:
        workers: processes; None: chosen by size.
    """
    shards = collection.manifest.shards
    found = Statistics(collection.spec.name, len(shards), sum(shard.bytes for shard in shards))
    todo = [piece for piece in pieces(collection) if piece.part != "images"]  # counted where samples name them
    hashes = Hashes()
    for part, own in work_on(_measure, collection, todo, workers, track, f"stats {found.name}"):
        found.merge(part)
        hashes.merge(own)
    found.repeats = find_repeats(collection, hashes)
    return found


def quantiles(values: Mapping[Any, int]) -> list[float]:
    """The `QUANTILES` of value -> count; empty where there is none. Each is a value that occurs."""
    ordered, total = sorted(values.items()), sum(values.values())
    found: list[float] = []
    for share in QUANTILES if total else ():
        reached, wanted = 0, max(share * total, 1)
        found.append(next(value for value, count in ordered if (reached := reached + count) >= wanted))
    return found


def _measure(collection: Collection, piece: Piece) -> tuple[Statistics, Hashes]:
    found, hashes = Statistics(), Hashes()
    if piece.part != "shard":
        table = collection.documents
        assert table is not None
        for number in range(piece.start, piece.stop):
            row = table.row(number, ("text", "image"))
            images = () if row["image"] is None else (EncodedImage(row["image"]),)
            content = Content(row["text"], images)
            found.sides["table"].add(content)
            hashes.add("table", content, -1 - number)
        return found, hashes
    with collection.tar(piece.start) as path:
        samples = collection.kept.select(piece.start, scan_shard(path).samples) if path.is_file() else []
        found.broken += max(collection.manifest.shards[piece.start].samples - len(samples), 0)
        _measure_samples(collection, piece.start, collection.read(path, samples) if samples else (), found, hashes)
    return found, hashes


def _measure_samples(
    collection: Collection, shard: int, samples: Iterable[RawSample], found: Statistics, hashes: Hashes
) -> None:
    for number, raw in enumerate(samples):
        try:
            sample = collection.decoder.parse(raw)
            own = [
                collection.decoder.document(sample, side, one)
                for side, references in (("positives", sample.positives), ("negatives", sample.negatives))
                for one in references
                if not isinstance(one, str)  # what the table has is counted there, once
            ]
        except SampleError:
            found.broken += 1
            continue
        found.samples += 1
        found.positives[len(sample.positives)] += 1
        found.negatives[len(sample.negatives)] += 1
        for name in LABELS:
            value = sample.meta.get(name)
            found.labels.update(map(str, value) if isinstance(value, dict) else [] if value is None else [str(value)])
        found.sides["queries"].add(sample.query)
        place = (shard << 32) + number
        hashes.add("query", sample.query, place)
        for document in own:
            found.sides["documents"].add(document)
            hashes.add("document", document, place)


def _weighted(pairs: Iterable[tuple[float, int]]) -> Counter[float]:
    found: Counter[float] = Counter()
    for value, count in pairs:
        found[value] += count
    return found
