"""A source as mining sees it: its queries with their positives, and the documents that are searched."""

# Q queries, N documents that are searched, then E positives that only their own queries are compared with

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from mmret.data.decode import Parsed
from mmret.data.source import Source, content_id
from mmret.data.sources.read_ahead import read_ahead
from mmret.data.table import Table
from mmret.errors import ConfigError, SampleError
from mmret.evaluation.encode import Track, untracked
from mmret.types import Content


@dataclass(frozen=True)
class Asked:
    """A query."""

    index: int
    """Sample of the source."""
    name: str
    """shard:key"""
    positives: tuple[int, ...]
    """Rows of its positives, rising, each once."""


class Mineable:
    """Queries and documents by row.

    Searched is the spec's documents table, in its order; without one, all documents of all rows, each once, in the
    order in which they first occur. Positives that are not in the table follow it. Pickles into data workers.
    """

    def __init__(self, source: Source, track: Track = untracked) -> None:
        """Read all samples once.

        Raises:
            ConfigError: no sample has positives; no document's picture decodes; there is no table, and a document does
                not fit into one.
        """
        self.source = source
        self.table: Table | None = source.documents
        self.names: list[str] = []
        """shard:key of all samples that can be read."""
        self.asked: list[Asked] = []
        self.broken = 0
        """Samples that cannot be read; training replaces them."""
        self._inline: list[tuple[int, str, int]] = []
        """Of each document that is not of the table: sample, side, place in its list."""
        self._inline_ids: list[str] = []
        self._lengths: list[int] = []
        self._moving = False
        self._keys: dict[int, str] = {}
        rows: dict[int, int] = {}
        self.unreadable = self._undecodable(track)
        """Rows of the table that are searched for nobody: a picture of theirs does not decode."""
        # Pictures are decoded by threads, as training will: one that does not would stop the encoding, hours later.
        read = read_ahead(self._whole, self._parsed(), os.cpu_count() or 1)
        for index, sample in track(read, "read samples", len(source)):
            try:
                if sample is None:
                    self.broken += 1
                else:
                    self._add(index, sample, rows)
            except SampleError:
                self.broken += 1
        self.num_searched = len(self._inline) if self.table is None else len(self.table)
        """N"""
        if not self.asked:
            raise ConfigError(f"{source.spec.file or source.name}: no sample has positives; negatives need them")

    def __len__(self) -> int:
        """N + E."""
        return len(self._inline) + (0 if self.table is None else len(self.table))

    def query(self, number: int) -> Content:
        """A query as training gives it; of several instructions the first."""
        query = self.source.parse(self.asked[number].index).query
        if query.instruction is None and self.source.spec.instructions:
            query = replace(query, instruction=self.source.spec.instructions[0])
        return query

    def document(self, row: int) -> Content:
        """A document."""
        before = 0 if self.table is None else len(self.table)
        if row < before:
            return self.source.decoder.row_document(row)
        index, side, at = self._inline[row - before]
        sample = self.source.parse(index)
        return self.source.decoder.document(sample, side, getattr(sample, side)[at])

    def id(self, row: int) -> str:
        """The id of a document that is searched, in the table or in the one that is to be made."""
        return self._inline_ids[row] if self.table is None else self.table.id(row)

    def lengths(self) -> list[int]:
        """[N + E] characters of each text."""
        if self.table is None:
            return self._lengths
        return [*(len(values["text"] or "") for values in self.table.rows(("text",))), *self._lengths]

    def known(self, asked: Asked, row: int) -> str | None:
        """Why a document is a positive of a query; None: it is none."""
        if row in asked.positives:
            return "positive_id"
        if any(self._key(positive) == self._key(row) for positive in asked.positives):
            return "positive_content"
        return None

    def rows(self) -> Iterator[dict[str, object]]:
        """The documents that are searched as rows of a table, where the spec has none."""
        for row, id in enumerate(self._inline_ids):
            document = self.document(row)
            values: dict[str, object] = {"id": id, "text": document.text}
            values["image"] = document.images[0].data if document.images else None
            if self._moving:
                values["frames"] = [frame.data for frame in document.video.frames] if document.video else None
            yield values

    def _undecodable(self, track: Track) -> frozenset[int]:
        """Rows of the table with a picture that does not decode, or is not there."""
        table = self.table
        if table is None or not table.has_pictures:
            return frozenset()

        def decodes(row: int) -> bool:
            try:
                for picture in self.source.decoder.row_document(row).pictures:
                    picture.decode()
            except SampleError:
                return False
            return True

        read = track(read_ahead(decodes, range(len(table)), os.cpu_count() or 1), "look at documents", len(table))
        found = frozenset(row for row, good in enumerate(read) if not good)
        if len(found) == len(table):
            raise ConfigError(f"{table.path}: no document's picture decodes; `mmret data check` says more")
        return found

    def _parsed(self) -> Iterator[tuple[int, Parsed | None]]:
        """All samples; None for those that cannot be read."""
        for index in range(len(self.source)):
            try:
                yield index, self.source.parse(index)
            except SampleError:
                yield index, None

    def _whole(self, parsed: tuple[int, Parsed | None]) -> tuple[int, Parsed | None]:
        """The sample; None if a picture of its own does not decode."""
        index, sample = parsed
        if sample is None:
            return parsed
        own = [(side, one) for side in ("positives", "negatives") for one in getattr(sample, side)]
        try:
            contents = [self.source.decoder.document(sample, side, one) for side, one in own if isinstance(one, dict)]
            for picture in (one for content in (sample.query, *contents) for one in content.pictures):
                picture.decode()
        except SampleError:
            return index, None
        return parsed

    def _add(self, index: int, sample: Parsed, rows: dict[int, int]) -> None:
        """One sample: its name, its documents, and what of them answers it."""
        positives = {self._row(index, sample, "positives", at, rows) for at in range(len(sample.positives))}
        if not positives.isdisjoint(self.unreadable):
            raise SampleError(f"{sample.name}: a picture of a positive does not decode")
        if self.table is None:
            for at in range(len(sample.negatives)):
                self._row(index, sample, "negatives", at, rows)
        self.names.append(sample.name)
        if positives:
            self.asked.append(Asked(index, sample.name, tuple(sorted(positives))))

    def _row(self, index: int, sample: Parsed, side: str, at: int, rows: dict[int, int]) -> int:
        """Row of a document of a sample; new ones are added behind."""
        reference = getattr(sample, side)[at]
        if self.table is not None and isinstance(reference, str) and (found := self.table.find(reference)) is not None:
            return found
        document = self.source.decoder.document(sample, side, reference)
        id = content_id(document) if document.id is None else document.id
        if self.table is not None and (found := self.table.find(id)) is not None:
            return found
        number = self.source.number(document)
        if number not in rows:
            if self.table is None:
                self._refuse(sample.name, side, document)
            rows[number] = len(self)
            self._inline.append((index, side, at))
            self._inline_ids.append(id)
            self._lengths.append(len(document.text or ""))
            self._moving |= document.video is not None
        return rows[number]

    def _refuse(self, name: str, side: str, document: Content) -> None:
        """Raise for what no row of a table holds, before hours go by."""
        rate = document.video is not None and document.video.fps is not None
        if len(document.images) > 1 or rate:
            has = "a video with a rate" if rate else f"{len(document.images)} pictures"
            raise ConfigError(
                f"{name}: a document of {side} has {has}, which no row of a documents table holds, and negatives are "
                "ids of one; pack documents with one picture each"
            )

    def _key(self, row: int) -> str:
        """Equal for documents of equal text and pictures."""
        if row not in self._keys:
            self._keys[row] = content_id(self.document(row))
        return self._keys[row]
