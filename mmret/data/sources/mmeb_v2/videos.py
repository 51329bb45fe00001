"""A video set on its way to disk: frames that ask, documents, samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from mmret.data.shards import Sample, write_shards
from mmret.data.sources.image_folder import deciding, read_image
from mmret.data.sources.mmeb_v2.config import MMEBV2Config
from mmret.data.sources.mmeb_v2.frames import FrameFolders
from mmret.data.sources.mmeb_v2.rows import MISSING, Item, LeftOut, Ranking, Reader
from mmret.data.sources.mmeb_v2.table import SetTable
from mmret.data.sources.read_ahead import read_ahead
from mmret.data.sources.record import Built, Counts, fingerprint, remove_shards, write_once
from mmret.data.sources.track import Track
from mmret.data.table import Table, write_table
from mmret.errors import ConfigError, SampleError

_FIRST_LOOK = 50


class VideoSet:
    """One table and its folders of frames; a restart repeats only the file that was being written."""

    def __init__(self, table: SetTable, config: MMEBV2Config, track: Track):
        """Open.

        Raises:
            ConfigError: the options name no frames.
        """
        self.table, self.facts, self.config, self.track = table, table.facts, config, track
        if config.frames is None:
            raise ConfigError(f"mmeb_v2: {self.facts.name} needs --frames, the folder of MMEB-V2's video-tasks/frames")
        self.frames = FrameFolders(Path(config.frames), self.facts.frames, config.num_frames)
        self.reader = Reader(table, self.frames, config.limit)
        self.title, self.folder = f"{self.facts.folder}/test", Path(config.out) / self.facts.folder
        files = [file for _, file in table.files]
        self.bytes = sum(file.stat().st_size for file in files)
        self.files, self.made_from = files, dict[str, Any]()

    def check(self) -> None:
        """Refuse, before an hour of work, a folder that does not hold even one of the first videos."""
        rows = list(islice(self.reader, _FIRST_LOOK))
        lost = [row.text for row in rows if isinstance(row, LeftOut) and row.missing]
        items = (item for row in rows if isinstance(row, Ranking) for item in (row.query, *row.candidates))
        videos = [item.video for item in items if item.video]
        if (lost or videos) and not any(map(self.frames.frames, videos)):
            what = lost[0] if lost else f"no frames of video {videos[0]!r} in {self.frames.tried}"
            raise ConfigError(f"mmeb_v2: {self.facts.name}: of the first {len(rows)} rows no video is there; {what}")
        sizes = [[frame.stat().st_size for frame in self.frames.frames(video)] for video in videos[:_FIRST_LOOK]]
        options = deciding(self.config, "num_frames", "limit", "skip_missing_images")
        self.made_from = fingerprint(self.files, options | {"first_videos": sizes})

    def build(self) -> Built:
        """Frames of queries, documents, samples: in this order, as samples name only what is there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        images, documents = (self.folder / f"test_{what}.arrow" for what in ("images", "documents"))
        manifest, had = self.folder / "test.manifest.json", []
        queries = (row.query for row in self._rankings())
        shown = dict.fromkeys(Item("", one.video, one.image) for one in queries if one.video or one.image)
        if shown:
            _, there = write_once(
                images, self.made_from, lambda counts: self._write_images(list(shown), images, counts)
            )
            had.append(there)
        found, there = write_once(documents, self.made_from, lambda counts: self._write_documents(documents, counts))
        had.append(there)
        kept = [set(Table.open(path).ids()) if path.is_file() else set() for path in (images, documents)]

        def write(counts: Counts) -> None:
            remove_shards(manifest)
            rows = self.track(self._samples(kept[0], kept[1], counts), f"{self.title} samples")
            write_shards(rows, self.folder, "test")

        rows, there = write_once(manifest, self.made_from, write, all(had))
        return Built(self.title, manifest, documents, rows, found, all((*had, there)))

    def _rankings(self) -> Iterator[Ranking]:
        for row in self.reader:
            if isinstance(row, Ranking):
                yield row
            elif row.missing and not self.config.skip_missing_images:
                raise SampleError(f"{self.title}: {row.text}; to leave such rows out: --skip-missing-images")

    def _write_images(self, items: list[Item], file: Path, counts: Counts) -> None:
        def rows() -> Iterator[dict[str, Any]]:
            for item, pictures in self.track(self._read(items, counts), f"{self.title} asking videos", len(items)):
                yield from ({"id": id, "image": data} for id, data in zip(self._ids(item), pictures))

        write_table(rows(), file)

    def _write_documents(self, file: Path, counts: Counts) -> None:
        items = {item.id: item for row in self._rankings() for item in row.candidates}
        items |= {item.id: item for item in self.reader.fixed()}
        # In the order of their ids, which are digests: equal scores are ranked in the order of the table, which must
        # not know what is right.
        ordered = [items[id] for id in sorted(items)]
        moving = any(item.video for item in ordered)

        def rows() -> Iterator[dict[str, Any]]:
            for item, pictures in self.track(self._read(ordered, counts), f"{self.title} documents", len(ordered)):
                row = {"id": item.id, "text": item.text or None}
                yield {**row, "image": None, "frames": pictures} if moving else row

        write_table(rows(), file)

    def _read(self, items: Iterable[Item], counts: Counts) -> Iterator[tuple[Item, list[bytes]]]:
        """Each item whose frames or picture can be read, and their bytes."""

        def read(item: Item) -> tuple[Item, list[bytes], str | None]:
            try:
                files = self._files(item)
                if (item.video or item.image) and not files:
                    what = f"frames of video {item.video!r}" if item.video else f"picture {item.image!r}"
                    return item, [], f"no {what} in {self.frames.tried}"
                config = self.config
                return item, [read_image(file, config.max_side, config.max_px)[1] for file in files], None
            except (SampleError, OSError) as error:
                return item, [], str(error)

        for item, pictures, problem in read_ahead(read, items, self.config.workers):
            counts.rows += 1
            if problem is None:
                counts.kept += 1
                yield item, pictures
            elif self.config.skip_missing_images:
                counts.leave_out(MISSING, problem)
            else:
                raise SampleError(f"{self.title}: {problem}; to leave such rows out: --skip-missing-images")

    def _files(self, item: Item) -> tuple[Path, ...]:
        if item.image:
            file = self.frames.picture(item.image)
            return () if file is None else (file,)
        return self.frames.frames(item.video) if item.video else ()

    def _ids(self, item: Item) -> list[str]:
        """Ids in the images table of what a query shows."""
        return [item.image] if item.image else [f"{item.video}/{file.name}" for file in self._files(item)]

    def _samples(self, images: set[str], documents: set[str], counts: Counts) -> Iterator[Sample]:
        for number, row in enumerate(self.reader):
            counts.rows += 1
            if isinstance(row, LeftOut):
                counts.leave_out(row.reason, row.text)
                continue
            query, ids = row.query, [item.id for item in row.candidates]
            shown = self._ids(query) if query.image or query.video else []
            if not documents.issuperset(ids) or not images.issuperset(shown) or (query.video and not shown):
                counts.leave_out(MISSING, f"row {number}")
                continue
            counts.kept += 1
            asked = {"text": query.text, **({"images": shown} if query.image else {"video": shown} if shown else {})}
            sample: dict[str, Any] = {"query": asked, "positives": [item.id for item in row.right]}
            if self.facts.own_candidates:
                sample["candidates"] = ids
            yield Sample(f"{number:09d}", sample)
