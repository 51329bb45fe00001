"""Building MMEB: of each set a picture table, a documents table for evaluation, and samples. Restartable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmret.data.shards import Sample, write_shards
from mmret.data.sources.image_folder import ImageFolder, deciding, read_image
from mmret.data.sources.mmeb.config import MMEBConfig
from mmret.data.sources.mmeb.prompt import Kind, published, spec_name
from mmret.data.sources.mmeb.rows import Side, TrainRow, ranking_rows, train_rows
from mmret.data.sources.parquet import ParquetSplit
from mmret.data.sources.read_ahead import read_ahead
from mmret.data.sources.record import Built, Counts, fingerprint, remove_shards, write_once
from mmret.data.sources.slice import Slice
from mmret.data.sources.track import Track, untracked
from mmret.data.table import Table, write_table
from mmret.errors import ConfigError, SampleError

_SUBFOLDERS = ("", "images", "MMEB")


def build_mmeb(config: MMEBConfig, track: Track = untracked) -> list[Built]:
    """Build every set of the folder that is not finished yet: `<out>/<set>/train...` or `<out>/<set>/test...`.

    Raises:
        ConfigError: no tables, not MMEB's, or the pictures are not there.
        SampleError: a row is broken, or a picture is missing and may not be.
    """
    root = Path(config.tables)
    kinds = {spec_name(name): kind for name, kind in published().items()}
    wording = "original" if config.instructions == "none" else config.instructions
    folders = {spec_name(path.name): path.name for path in sorted(root.iterdir())} if root.is_dir() else {}
    asked = [spec_name(name) for name in config.datasets]
    for name in asked:
        if name not in kinds or name not in folders:
            where = "tables of it in" if name in kinds else "set of MMEB; not in"
            raise ConfigError(f"mmeb: {name}: no {where} {root} ({', '.join(folders) or 'which is empty or missing'})")
    parts = []
    for name in kinds:
        for split in ("test", wording) if name in folders and name in (asked or kinds) else ():
            table = ParquetSplit.find(root, folders[name], split)
            if table is None:
                continue
            if table.missing_parts:
                raise ConfigError(f"mmeb: {table.name} lacks part {table.missing_parts[0]}; download it again")
            parts.append(_Part(name, kinds[name], table, split == "test", config, track))
    if not parts:
        raise ConfigError(
            f"mmeb: {root} has no tables of MMEB; want SET/test-*.parquet, or SET/{wording}-*.parquet for training"
        )
    # Each set has a folder of its own, so that tasks do not meet.
    mine = Slice.parse(config.slice).share(sorted(parts, key=lambda part: -len(part.table)))
    parts = [part for part in parts if part in mine]
    for part in parts:
        part.look()
    return [part.build() for part in parts]


class _Part:
    """One table on its way to disk, file by file; a restart repeats only the file that was being written."""

    def __init__(self, name: str, kind: Kind, table: ParquetSplit, test: bool, config: MMEBConfig, track: Track):
        self.kind, self.table, self.test, self.config, self.track = kind, table, test, config, track
        self.split = "test" if test else "train"
        self.title, self.folder = f"{name}/{self.split}", Path(config.out) / name
        self.images = ImageFolder([Path(config.images)], _SUBFOLDERS)
        self.made_from: dict[str, Any] = {}

    def look(self) -> None:
        """Refuse, before an hour of work, a folder that does not hold even one of the first pictures."""
        sizes = self.images.first_sizes(self._all_paths(), self.table.name)
        options = deciding(self.config, "instructions", "limit", "skip_missing_images") | {"first_pictures": sizes}
        self.made_from = fingerprint(self.table.files, options)

    def build(self) -> Built:
        """Pictures, documents, samples: in this order, as samples name only what is there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        images, documents = (self.folder / f"{self.split}_{what}.arrow" for what in ("images", "documents"))
        manifest = self.folder / f"{self.split}.manifest.json"
        had, found = [], Counts()
        paths = sorted(self._paths())
        if paths:
            found, there = write_once(images, self.made_from, lambda counts: self._write_images(paths, images, counts))
            had.append(there)
        if self.test:
            found, there = write_once(
                documents, self.made_from, lambda counts: self._write_documents(documents, counts)
            )
            had.append(there)
        kept = [set(Table.open(path).ids()) if path.is_file() else set() for path in (images, documents)]
        samples = self._test_samples if self.test else self._train_samples

        def write(counts: Counts) -> None:
            remove_shards(manifest)
            rows = self.track(samples(kept[0], kept[1], counts), f"{self.title} samples")
            write_shards(rows, self.folder, self.split)

        rows, there = write_once(manifest, self.made_from, write, all(had))
        return Built(self.title, manifest, documents if self.test else None, rows, found, all((*had, there)))

    def _rows(self) -> Iterator[Any]:
        plain = self.config.instructions == "none"
        if self.test:
            return ranking_rows(self.table, self.kind, self.config.limit, plain)
        return train_rows(self.table, self.config.limit, plain)

    def _all_paths(self) -> Iterator[str]:
        for row in self._rows():
            if self.test:
                yield from (side.image for side in (row.query, *row.candidates) if side.image)
            elif isinstance(row, TrainRow):
                yield from row.images

    def _paths(self) -> set[str]:
        """Pictures of the images table: in evaluation those of queries, as documents bring their own."""
        if self.test:
            return {row.query.image for row in self._rows() if row.query.image}
        return set(self._all_paths())

    def _write_images(self, paths: list[str], file: Path, counts: Counts) -> None:
        rows = ({"id": path, "image": data} for path, data in self._read({path: path for path in paths}, counts))
        write_table(self.track(rows, f"{self.title} pictures", len(paths)), file)

    def _write_documents(self, file: Path, counts: Counts) -> None:
        sides: dict[str, Side] = {}
        for row in self._rows():
            sides.update((side.id, side) for side in row.candidates)
        # In the order of their ids, which are digests: equal scores are ranked in the order of the table, and right
        # candidates, which are the first of their rows, would win by standing first.
        sides = dict(sorted(sides.items()))
        pictures = self._read({id: side.image for id, side in sides.items()}, counts)
        rows = ({"id": id, "text": sides[id].text or None, "image": data or None} for id, data in pictures)
        write_table(self.track(rows, f"{self.title} documents", len(sides)), file)

    def _read(self, paths: Mapping[str, str], counts: Counts) -> Iterator[tuple[str, bytes]]:
        """Id and bytes of each picture that can be read; an empty path has none."""

        def read(item: tuple[str, str]) -> tuple[str, bytes, str | None]:
            id, path = item
            try:
                file = self.images.find(path) if path else None
                if path and file is None:
                    return id, b"", f"no picture {path!r} in {', '.join(self.images.tried)}"
                return id, b"" if file is None else read_image(file, self.config.max_side, self.config.max_px)[1], None
            except (SampleError, OSError) as error:
                return id, b"", str(error)

        for id, data, problem in read_ahead(read, paths.items(), self.config.workers):
            counts.rows += 1
            if problem is None:
                counts.kept += 1
                yield id, data
            elif self.config.skip_missing_images:
                counts.leave_out("picture missing or broken", problem)
            else:
                raise SampleError(f"{self.title}: {problem}; to leave such rows out: --skip-missing-images")

    def _train_samples(self, images: set[str], _: set[str], counts: Counts) -> Iterator[Sample]:
        for number, row in enumerate(self._rows()):
            counts.rows += 1
            if isinstance(row, str):
                counts.leave_out("empty query or positive", row)
            elif not images.issuperset(row.images):
                counts.leave_out("picture missing or broken", f"row {number}")
            else:
                counts.kept += 1
                sides = {"positives": [row.positive.json()], "negatives": [side.json() for side in row.negatives]}
                sides = {name: listed for name, listed in sides.items() if listed}
                yield Sample(f"{number:09d}", {"query": row.query.json(), **sides})

    def _test_samples(self, images: set[str], documents: set[str], counts: Counts) -> Iterator[Sample]:
        for number, row in enumerate(self._rows()):
            counts.rows += 1
            ids = [side.id for side in row.candidates]
            if not documents.issuperset(ids) or (row.query.image and row.query.image not in images):
                counts.leave_out("picture missing or broken", f"row {number}")
                continue
            counts.kept += 1
            yield Sample(f"{number:09d}", {"query": row.query.json(), "positives": ids[:1], "candidates": ids})
