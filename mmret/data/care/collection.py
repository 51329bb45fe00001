"""What care is taken of: the collection of a data spec, or of a manifest alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import cast

from mmret.data.classes import Classes
from mmret.data.decode import Decoder
from mmret.data.index import ShardIndex
from mmret.data.kept import Kept
from mmret.data.mined import MinedNegatives
from mmret.data.reader import RawSample, ShardReader
from mmret.data.remote import (
    NoRanges,
    RemoteCache,
    RemoteDamaged,
    RemoteMissing,
    ShardBytes,
    has_ranges,
    is_remote,
    read_range,
)
from mmret.data.scan import open_tar
from mmret.data.shards import Manifest
from mmret.data.spec import DataSpec
from mmret.data.table import Table
from mmret.errors import ConfigError, SampleError

Members = list[tuple[str, int, int]]
"""(suffix, offset, size) of each member of a sample."""


class _Looking(ShardReader):
    """Reads the samples that are asked for alone; from a server that gives only whole files, those."""

    _asked = False

    def _open_remote(self, shard: int, address: str) -> tuple[ShardBytes, ShardIndex]:
        if self.ranges and not self._asked and has_ranges(address):
            try:
                read_range(address, 0, 1, self.manifest.shards[shard].bytes)
            except NoRanges:
                self.ranges = False
            self._asked = True
        return super()._open_remote(shard, address)


@dataclass(frozen=True)
class Collection:
    """A spec and its manifest, opened without the checks of `DataSpec.open`: what is broken opens, too."""

    spec: DataSpec
    manifest: Manifest
    bare: bool = False
    """From a manifest alone: which tables its ids belong to is not known."""

    @classmethod
    def find(cls, target: str | Path) -> Collection:
        """By the name or file of a data spec, or by a manifest's file (ends in .json), URL or command.

        A manifest alone does not say its layout: its first sample that can be read does.

        Raises:
            ConfigError: no such spec or manifest, or it is none.
            RemoteError: a manifest that lies elsewhere cannot be fetched.
        """
        if not is_remote(target) and Path(target).suffix != ".json":
            spec = DataSpec.load(target)
            return cls(spec, spec.manifest())
        manifest = Manifest.load(target)
        name = manifest.path.name.removesuffix(".json").removesuffix(".manifest")
        spec = DataSpec(name=name, shards=manifest.url or manifest.path.name, file=str(manifest.path))
        found = cls(spec, manifest, bare=True)
        return replace(found, spec=replace(spec, layout="samples" if found._has_our_json() else "pairs"))

    @cached_property
    def documents(self) -> Table | None:
        """The documents table, if the spec names one."""
        return Table.open(self.spec.resolve(self.spec.documents)) if self.spec.documents else None

    @cached_property
    def images(self) -> Table | None:
        """The images table, if the spec names one."""
        return Table.open(self.spec.resolve(self.spec.images)) if self.spec.images else None

    @cached_property
    def classes(self) -> Classes | None:
        """The classes, if the spec names them."""
        return Classes.load(self.spec.resolve(self.spec.classes)) if self.spec.classes else None

    @cached_property
    def decoder(self) -> Decoder:
        """What reads its samples."""
        mined = MinedNegatives(self.spec.resolve(self.spec.negatives)) if self.spec.negatives else None
        return Decoder(self.spec, self.documents, self.images, mined)

    @cached_property
    def reader(self) -> ShardReader:
        """Samples by number; reading says what is wrong with their shard. No shard is fetched for a few of them."""
        return _Looking(self.manifest, ranges=True)

    @contextmanager
    def tar(self, shard: int) -> Iterator[Path]:
        """A shard on disk; of one that lies elsewhere the copy in the cache, which stays until this is left.

        Raises:
            RemoteError: it cannot be fetched, or is not what the manifest says; `NoRoom`: the cache has none.
        """
        address, entry = self.manifest.address(shard), self.manifest.shards[shard]
        if address is None:
            yield self.manifest.shard_path(shard)
        else:
            with RemoteCache.default().shard(address, entry.bytes, entry.sha256) as file:
                yield Path(cast(str, file.name))

    @cached_property
    def kept(self) -> Kept:
        """Which samples of its tars are its own."""
        return Kept(self.manifest)

    def read(self, shard: Path, samples: list[tuple[str, Members]]) -> Iterator[RawSample]:
        """Samples of a tar by the places of their members, in order; the manifest's index is not asked."""
        with open_tar(shard) as file:
            for key, members in samples:
                contents = {}
                for suffix, offset, size in members:
                    file.seek(offset)
                    contents[suffix] = file.read(size)
                yield RawSample(f"{shard.name}:{key}", contents)

    def _has_our_json(self) -> bool:
        for index in range(min(len(self.reader), 20)):
            try:
                row = json.loads(self.reader.read(index).members.get("json") or b"{}")
            except (ValueError, SampleError, ConfigError, RemoteMissing, RemoteDamaged):
                continue
            return isinstance(row, dict) and "query" in row
        return True
