"""Building a Karpathy split: a table of pictures, one of captions, and samples for both ways of searching."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from mmret.data.shards import Sample, write_shards
from mmret.data.sources.image_folder import ImageFolder, deciding, read_image
from mmret.data.sources.karpathy.annotations import Picture, read_annotations
from mmret.data.sources.karpathy.config import SPLITS, KarpathyConfig
from mmret.data.sources.read_ahead import read_ahead
from mmret.data.sources.record import (
    Built,
    Counts,
    fingerprint,
    finish,
    finished,
    remove_shards,
    whole_shards,
)
from mmret.data.sources.track import Track, untracked
from mmret.data.table import Table, write_table
from mmret.errors import SampleError

logger = logging.getLogger(__name__)

_SUBFOLDERS = ("", "images", "flickr30k-images", "flickr30k_images")


def build_karpathy(config: KarpathyConfig, track: Track = untracked) -> list[Built]:
    """Build every split that is not finished yet; of each both ways, text to image and image to text.

    Raises:
        ConfigError: the split file or the pictures are not there.
        SampleError: a row of the file is broken, or a picture is missing.
    """
    annotations = read_annotations(config.annotations)
    splits = [split for split in SPLITS if split in (config.splits or SPLITS)]
    for text in annotations.unlike_published(splits):
        logger.warning(text)
    images = ImageFolder([Path(config.images)], _SUBFOLDERS)
    folder = Path(config.out or f"data/{annotations.dataset}")
    chosen = {split: annotations.splits[split][: config.limit] for split in splits}
    sizes = {}
    for split, pictures in chosen.items():
        if not pictures:
            raise SampleError(f"{annotations.file}: no picture is of split {split}")
        paths = (picture.path for picture in pictures)
        sizes[split] = images.first_sizes(paths, f"{annotations.file.name}, {split}")
    folder.mkdir(parents=True, exist_ok=True)
    built = []
    for split, pictures in chosen.items():
        options = deciding(config, "limit", "skip_missing_images") | {"first_pictures": sizes[split]}
        made_from = fingerprint([annotations.file], options)
        part = _Split(annotations.dataset, split, pictures, folder, made_from, config, images, track)
        built += part.build()
    return built


class _Split:
    """One split on its way to disk, piece by piece; a restart repeats only the piece that was being written."""

    def __init__(
        self,
        dataset: str,
        name: str,
        pictures: list[Picture],
        folder: Path,
        made_from: dict[str, Any],
        config: KarpathyConfig,
        images: ImageFolder,
        track: Track,
    ):
        self.name, self.title, self.pictures, self.folder = name, f"{dataset}/{name}", pictures, folder
        self.made_from, self.config, self.images, self.track = made_from, config, images, track

    def build(self) -> list[Built]:
        """Both tables, then both kinds of samples."""
        images, captions = (self.folder / f"{self.name}_{kind}.arrow" for kind in ("images", "captions"))
        shown, had_images = self._piece(images, self._write_images)
        kept = set(Table.open(images).ids())
        self.pictures = [picture for picture in self.pictures if picture.id in kept]
        # Another set of pictures makes other captions and samples, though the options be the same.
        said, had_captions = self._piece(captions, self._write_captions, had_images)
        built = []
        for way, samples, counts, found, table in (
            ("text_to_image", self._texts, said, shown, images),
            ("image_to_text", self._images, shown, said, captions),
        ):
            manifest = self.folder / f"{self.name}_{way}.manifest.json"
            _, had = self._piece(manifest, lambda path, _, samples=samples: _write(samples(), path), had_images)
            skipped = had_images and had_captions and had
            built.append(Built(f"{self.title}_{way}", manifest, table, counts, found, skipped))
        return built

    def _piece(self, path: Path, write: Callable[[Path, Counts], None], keep: bool = True) -> tuple[Counts, bool]:
        """What became of the rows of one file, and whether it was there and is kept; else it is written."""
        record = path.with_name(f"{path.name.partition('.')[0]}.build.json")
        counts = finished(record, self.made_from) if keep else None
        if counts is not None and (whole_shards(path) if path.suffix == ".json" else path.is_file()):
            return counts, True
        record.unlink(missing_ok=True)
        counts = Counts()
        write(path, counts)
        finish(record, self.made_from, counts)
        for reason, number in counts.left_out.items():
            logger.warning("%s: %d left out: %s (first: %s)", path.name, number, reason, counts.first[reason])
        return counts, False

    def _write_images(self, path: Path, counts: Counts) -> None:
        rows = self._image_rows(counts)
        write_table(self.track(rows, f"{self.title} pictures", len(self.pictures)), path)

    def _image_rows(self, counts: Counts) -> Iterator[dict[str, Any]]:
        for picture, data, problem in read_ahead(self._read, self.pictures, self.config.workers):
            counts.rows += 1
            if problem is not None:
                if not self.config.skip_missing_images:
                    raise SampleError(f"{self.title}: {problem}; to leave such pictures out: --skip-missing-images")
                counts.leave_out("picture missing or broken", problem)
            elif not picture.captions:
                counts.leave_out("no caption", picture.path)
            else:
                counts.kept += 1
                yield {"id": picture.id, "image": data, "path": picture.path}

    def _read(self, picture: Picture) -> tuple[Picture, bytes, str | None]:
        """A picture's bytes, or what is wrong with it; runs in a thread."""
        try:
            file = self.images.find(picture.path)
            if file is None:
                return picture, b"", f"no picture {picture.path!r} in {', '.join(self.images.tried)}"
            return picture, read_image(file, self.config.max_side, self.config.max_px)[1], None
        except (SampleError, OSError) as error:
            return picture, b"", str(error)

    def _write_captions(self, path: Path, counts: Counts) -> None:
        write_table(self._caption_rows(counts), path)

    def _caption_rows(self, counts: Counts) -> Iterator[dict[str, Any]]:
        for picture in self.pictures:
            counts.rows += len(picture.captions) + picture.num_empty
            counts.kept += len(picture.captions)
            for _ in range(picture.num_empty):
                counts.leave_out("caption is empty", picture.path)
            for caption in picture.captions:
                yield {"id": caption.id, "text": caption.text, "image_id": picture.id}

    def _texts(self) -> Iterator[Sample]:
        """A sample per caption; its picture is the positive."""
        pairs = [(caption, picture.id) for picture in self.pictures for caption in picture.captions]
        if self.name == "train":
            # In order, the captions of a picture would meet in one shuffle window, and so in one batch.
            random.Random(self.title).shuffle(pairs)
        for number, (caption, picture) in enumerate(pairs):
            row = {"query": {"text": caption.text}, "positives": [picture], "question_id": caption.id}
            yield Sample(f"{number:09d}", row)

    def _images(self) -> Iterator[Sample]:
        """A sample per picture; all of its captions are positives. The picture itself lies in the table."""
        for number, picture in enumerate(self.pictures):
            positives = [caption.id for caption in picture.captions]
            row = {"query": {"images": [picture.id]}, "positives": positives, "question_id": picture.id}
            yield Sample(f"{number:09d}", row)


def _write(samples: Iterable[Sample], manifest: Path) -> None:
    remove_shards(manifest)
    write_shards(samples, manifest.parent, manifest.name.partition(".")[0])
