"""A document set on its way to disk: pages, and queries with the pages that are judged to answer them.

Published in two layouts, both of parquet tables:
    corpus, queries, qrels    BEIR's, one folder each; MMEB-V2 reads this one
    rows of query and page    ViDoRe's first: each row's page is right for its query, all pages are searched
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from mmret.data.shards import Sample, write_shards
from mmret.data.sources.image_folder import FIRST_LOOK, ImageFolder, deciding, scaled
from mmret.data.sources.mmeb_v2.config import MMEBV2Config
from mmret.data.sources.mmeb_v2.facts import SetFacts
from mmret.data.sources.mmeb_v2.rows import MISSING
from mmret.data.sources.mmeb_v2.table import folders_of
from mmret.data.sources.parquet import ParquetSplit
from mmret.data.sources.read_ahead import read_ahead
from mmret.data.sources.record import Built, Counts, fingerprint, remove_shards, write_once
from mmret.data.sources.shrink import image_size
from mmret.data.sources.track import Track
from mmret.data.table import Table, write_table
from mmret.errors import ConfigError, SampleError

_CORPUS, _QUERIES, _QRELS = ("corpus-id", "image"), ("query-id", "query"), ("query-id", "corpus-id", "score")
_ROWS = ("query", "image")


class PageSet:
    """The tables of one set; a restart repeats only the file that was being written."""

    def __init__(self, facts: SetFacts, tables: Mapping[str, ParquetSplit], config: MMEBV2Config, track: Track):
        self.facts, self.tables, self.config, self.track = facts, tables, config, track
        self.title, self.folder = f"{facts.folder}/test", Path(config.out) / facts.folder
        files = [file for table in tables.values() for file in table.files]
        self.bytes = sum(file.stat().st_size for file in files)
        self.files, self.made_from = files, dict[str, Any]()
        names = dict.fromkeys((facts.name, facts.hub.rpartition("/")[2], ""))
        self.images = None if config.images is None else ImageFolder([Path(config.images)], [*names])

    @classmethod
    def find(cls, root: Path, facts: SetFacts, config: MMEBV2Config, track: Track) -> PageSet | None:
        """The set's tables below `root`; None: there are none.

        Raises:
            ConfigError: one of the three is missing, or a part of one.
        """
        for folder in folders_of(root, facts):
            names = ("corpus", "queries", "qrels")
            found = {name: ParquetSplit.find(folder, name, facts.split) for name in names}
            tables = {name: table for name, table in found.items() if table is not None}
            if not tables:
                rows = ParquetSplit.find(root, folder.name, facts.split)
                tables = {} if rows is None else {"rows": rows}
            elif len(tables) < len(names):
                missing = ", ".join(name for name in names if name not in tables)
                raise ConfigError(f"mmeb_v2: {folder}: no table {missing} ({facts.split}); download it again")
            for table in tables.values():
                if table.missing_parts:
                    raise ConfigError(
                        f"mmeb_v2: {folder}: {table.name} lacks part {table.missing_parts[0]}; download it again"
                    )
            if tables:
                return cls(facts, tables, config, track)
        return None

    def check(self) -> None:
        """Refuse tables of another layout, and see what is to be built.

        Raises:
            ConfigError: a column is missing.
        """
        pages = _CORPUS[:1] if self.images else _CORPUS
        wanted = {"corpus": pages, "queries": _QUERIES, "qrels": _QRELS, "rows": _ROWS}
        for name, table in self.tables.items():
            missing = [column for column in wanted[name] if column not in table.columns]
            if missing:
                raise ConfigError(
                    f"{table.files[0]}: no column {', '.join(missing)}; the {name} of a document set have "
                    f"{', '.join(wanted[name])} (this one: {', '.join(table.columns)})"
                )
        options = deciding(self.config, "limit", "skip_missing_images") | {"first_pages": self._first_sizes()}
        self.made_from = fingerprint(self.files, options)

    def _first_sizes(self) -> list[int | None]:
        """Bytes of the first pages that lie as files: another folder of them is another input."""
        if self.images is None or "corpus" not in self.tables:
            return []
        first = islice(self.tables["corpus"].rows(_CORPUS[:1]), FIRST_LOOK)
        files = [self.images.find(f"{row['corpus-id']}.png") for row in first]
        return [None if file is None else file.stat().st_size for file in files]

    def build(self) -> Built:
        """Pages, then samples, as these name only what is there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        documents, manifest = self.folder / "test_documents.arrow", self.folder / "test.manifest.json"

        def write_pages(counts: Counts) -> None:
            write_table(self.track(self._pages(counts), f"{self.title} pages", len(self._paged)), documents)

        def write(counts: Counts) -> None:
            remove_shards(manifest)
            write_shards(self.track(self._samples(kept, counts), f"{self.title} samples"), self.folder, "test")

        found, had = write_once(documents, self.made_from, write_pages)
        kept = set(Table.open(documents).ids())
        rows, there = write_once(manifest, self.made_from, write, had)
        return Built(self.title, manifest, documents, rows, found, had and there)

    @property
    def _paged(self) -> ParquetSplit:
        return self.tables["rows"] if "rows" in self.tables else self.tables["corpus"]

    def _pages(self, counts: Counts) -> Iterator[dict[str, Any]]:
        seen: set[str] = set()
        for id, data, problem in read_ahead(self._page, self._paged.rows(_CORPUS), self.config.workers):
            counts.rows += 1
            if problem is not None:
                self._refuse_unless_skipped(problem)
                counts.leave_out(MISSING, problem)
            elif id not in seen:
                seen.add(id)
                counts.kept += 1
                yield {"id": id, "text": self.facts.document, "image": data}

    def _page(self, row: dict[str, Any]) -> tuple[str, bytes, str | None]:
        """Id and bytes of a page, or what is wrong with it; runs in a thread."""
        value = row.get("image")
        data = value.get("bytes") if isinstance(value, dict) else value
        id = str(row["corpus-id"]) if "corpus-id" in row else _content_id(data)
        try:
            if not data:
                file = self.images.find(f"{id}.png") if self.images else None
                if file is None:
                    where = (
                        f"no {id}.png in {', '.join(self.images.tried)}" if self.images else "pages as files: --images"
                    )
                    return id, b"", f"page {id!r} has no picture in its table ({where})"
                data = file.read_bytes()
            image_size(data, f"page {id!r}")
            return id, scaled(data, f"page {id!r}", self.config.max_side, self.config.max_px)[1], None
        except (SampleError, OSError) as error:
            return id, b"", str(error)

    def _samples(self, pages: set[str], counts: Counts) -> Iterator[Sample]:
        for number, (text, judged) in enumerate(self._asked()):
            if number == self.config.limit:
                return
            counts.rows += 1
            unknown = next((id for id in judged if id not in pages), None)
            if not text or not text.strip():
                counts.leave_out("a value is empty", f"query {number}")
            elif not judged:
                counts.leave_out("no document is judged to answer it", f"query {number}")
            elif unknown is not None:
                problem = f"query {number}: page {unknown!r} answers it, but the corpus does not have it"
                self._refuse_unless_skipped(problem)
                counts.leave_out(MISSING, problem)
            else:
                counts.kept += 1
                yield Sample(f"{number:09d}", {"query": {"text": self.facts.query(text)}, "relevance": judged})

    def _asked(self) -> Iterator[tuple[str, dict[str, float]]]:
        """Queries in order, and the pages that answer each with their grades; of equal judgements the higher."""
        if "rows" in self.tables:
            found: dict[str, dict[str, float]] = {}
            for row in self.tables["rows"].rows(_ROWS):
                if row["query"]:
                    data = row["image"].get("bytes") if isinstance(row["image"], dict) else row["image"]
                    found.setdefault(row["query"], {})[_content_id(data)] = 1.0
            yield from found.items()
            return
        judged: dict[str, dict[str, float]] = {}
        for row in self.tables["qrels"].rows(_QRELS):
            score = row["score"]
            if not isinstance(score, (int, float)) or not math.isfinite(score):
                raise SampleError(
                    f"{self.tables['qrels'].files[0]}: score {score!r} of query {row['query-id']!r}; want a number"
                )
            if score > 0:
                own = judged.setdefault(str(row["query-id"]), {})
                own[str(row["corpus-id"])] = max(float(score), own.get(str(row["corpus-id"]), 0.0))
        for row in self.tables["queries"].rows(_QUERIES):
            yield row["query"] or "", judged.get(str(row["query-id"]), {})

    def _refuse_unless_skipped(self, problem: str) -> None:
        if not self.config.skip_missing_images:
            raise SampleError(f"{self.title}: {problem}; to leave such rows out: --skip-missing-images")


def _content_id(data: bytes | None) -> str:
    return blake2b(data or b"", digest_size=10).hexdigest()
