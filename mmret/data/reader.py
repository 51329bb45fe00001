"""Samples by number: find the shard, seek, read. No tar is parsed at training time, and nothing is decoded here."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from io import FileIO
from itertools import accumulate
from typing import Any

from msgspec import Struct

from mmret.data.index import ShardIndex, index_path
from mmret.data.inflate import seekable
from mmret.data.kept import Kept
from mmret.data.remote import (
    NoRoom,
    RemoteCache,
    RemoteMissing,
    ShardBytes,
    has_ranges,
    open_fetched,
    open_ranged,
    shown,
)
from mmret.data.remote.shard import FileBytes
from mmret.data.shards import Manifest
from mmret.errors import MMRetError, SampleError

logger = logging.getLogger(__name__)

_MAX_OPEN = 64
_LARGE = 32_768
"""Bytes of a sample above which its members are read one by one."""


class RawSample(Struct):
    """The members of a sample as they lie in the tar."""

    name: str
    """shard:key"""
    members: dict[str, bytes]
    """Suffix ("json", "q.0.webp") -> bytes."""


class ShardReader:
    """Reads any sample of a manifest. Safe after fork (reads carry their offset); pickles without its open files."""

    def __init__(self, manifest: Manifest, ranges: bool = False):
        """Nothing is opened yet.

        Args:
            ranges: of shards that lie elsewhere, ask for the samples that are read; else fetch them whole.
        """
        self.manifest, self.ranges = manifest, ranges
        self._kept = Kept(manifest)
        self._starts = [0, *accumulate(shard.samples for shard in manifest.shards)]
        self._open: OrderedDict[int, tuple[ShardBytes, ShardIndex] | SampleError] = OrderedDict()

    def __len__(self) -> int:
        return self._starts[-1]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "cache"} | {"_open": OrderedDict()}

    @cached_property
    def cache(self) -> RemoteCache:
        """Where shards that lie elsewhere are fetched to."""
        return RemoteCache.default()

    def read(self, index: int) -> RawSample:
        """Sample `index` of the collection, in stored order.

        Raises:
            SampleError: its shard is missing, shorter than its index says, or does not match it.
            RemoteError: its shard lies elsewhere, and cannot be fetched or is not what the manifest says.
            IndexError: there is no such sample.
        """
        return RawSample(*next(self.read_all((index,))))

    def read_all(self, indices: Iterable[int], views: bool = False) -> Iterator[tuple[str, dict[str, bytes]]]:
        """Name and members of samples in the given order; quick where neighbours lie in one shard.

        Args:
            views: members of large samples may be memoryviews, for a reader that is soon done with them.
        Raises:
            SampleError, RemoteError, IndexError: as `read`.
        """
        starts, kept = self._starts, self._kept if self._kept else None
        start, end, label = 0, 0, ""
        for index in indices:
            if not start <= index < end:
                if not 0 <= index < len(self):
                    raise IndexError(f"{self.manifest.path}: no sample {index} (of {len(self):,})")
                shard = bisect_right(starts, index) - 1
                start, end = starts[shard], starts[shard + 1]
                file, members = self._shard(shard)
                # Of small samples each look at an attribute is a share of the time.
                label, ends, keys = f"{self.manifest.shards[shard].name}:", members.keys.ends, members.keys.data
                only, offsets, sizes, read = members.only, members.offsets, members.sizes, file.read
            sample = index - start if kept is None else kept.place(shard, index - start)
            name = label + str(keys[ends[sample] : ends[sample + 1]], "utf-8")
            try:
                if only is not None:
                    data = read(offsets[sample], sizes[sample])
                    found, whole = {only: data}, len(data) == sizes[sample]
                else:
                    found, whole = _members(file, members.members(sample), views)
            except OSError as error:
                raise SampleError(f"{name}: cannot be read ({error})") from error
            if not whole:
                raise SampleError(f"{name}: the shard ends before this sample does; it was truncated, copy it again")
            yield name, found

    def name(self, index: int) -> str:
        """shard:key of sample `index`.

        Raises:
            SampleError: its shard is missing or does not match its index.
        """
        shard = bisect_right(self._starts, index) - 1
        _, members = self._shard(shard)
        key = members.key(self._kept.place(shard, index - self._starts[shard]))
        return f"{self.manifest.shards[shard].name}:{key}"

    def check(self) -> None:
        """Compare each shard's size and index with the manifest; no sample is read.

        Shards that lie elsewhere are not asked for: they are looked at when they are fetched.

        Raises:
            SampleError: a shard or index is missing, truncated, or of another version.
            ConfigError: a shard's address cannot be.
        """
        for shard in range(len(self.manifest.shards)):
            if self.manifest.address(shard) is None:
                self._check_shard(shard)

    def _shard(self, shard: int) -> tuple[ShardBytes, ShardIndex]:
        """The shard's open file and its index; the few last used stay open."""
        opened = self._open.get(shard)
        if opened is None:
            try:
                opened = self._open_shard(shard)
            except SampleError as error:
                # Remembered too: inflating a broken shard again for each of its samples would take hours.
                opened = error
            self._open[shard] = opened
            if len(self._open) > _MAX_OPEN:
                self._close_oldest()
        else:
            self._open.move_to_end(shard)
        if isinstance(opened, SampleError):
            raise SampleError(str(opened))
        return opened

    def _close_oldest(self) -> None:
        _, oldest = self._open.popitem(last=False)
        if not isinstance(oldest, MMRetError):
            oldest[0].close()

    def _open_shard(self, shard: int) -> tuple[ShardBytes, ShardIndex]:
        address = self.manifest.address(shard)
        if address is not None:
            return self._open_remote(shard, address)
        index = self._check_shard(shard)
        try:
            return FileBytes(FileIO(seekable(self.manifest.shard_path(shard)), "rb")), index
        except OSError as error:
            raise SampleError(f"{self.manifest.shard_path(shard)}: cannot be opened ({error})") from error

    def _open_remote(self, shard: int, address: str) -> tuple[ShardBytes, ShardIndex]:
        """Its copy; or itself, where that is asked for or the cache has no room even without our older shards."""
        entry = self.manifest.shards[shard]
        if self.ranges and has_ranges(address):
            try:
                return open_ranged(self.cache, address, entry)
            except RemoteMissing as error:
                logger.warning("%s; the shard is fetched whole, and indexed here", error)
        while True:
            try:
                return open_fetched(self.cache, address, entry)
            except NoRoom as error:
                if self._open and entry.bytes <= self.cache.room.max_bytes:
                    self._close_oldest()
                    continue
                if not has_ranges(address):
                    raise
                logger.warning("%s; until then %s is read by ranges, which is slower", error, shown(address))
                return open_ranged(self.cache, address, entry)

    def _check_shard(self, shard: int) -> ShardIndex:
        entry, path, listed = self.manifest.shards[shard], self.manifest.shard_path(shard), self.manifest.path.name
        try:
            size = path.stat().st_size
        except OSError as error:
            raise SampleError(
                f"{path}: the shard is missing ({error.strerror}), {listed} lists it; copy it, or pack the data again"
            ) from error
        if size != entry.bytes:
            state = "it is truncated" if size < entry.bytes else "it was replaced"
            raise SampleError(f"{path}: {size:,} bytes, {listed} says {entry.bytes:,}: {state}; copy it again")
        index = ShardIndex(index_path(path))
        stored = entry.samples if entry.stored is None else entry.stored
        if len(index) != stored:
            raise SampleError(
                f"{path}: its index has {len(index):,} samples, {listed} says {stored:,}; "
                "they are of different versions, pack the data again"
            )
        if index.shard_bytes != size:
            raise SampleError(
                f"{index_path(path)}: made for a shard of {index.shard_bytes:,} bytes, {path.name} has {size:,}; "
                "make the index again with mmret.data.index_shard"
            )
        return index


def _members(file: ShardBytes, places: Sequence[tuple[str, int, int]], views: bool) -> tuple[dict[str, Any], bool]:
    """The members at (suffix, offset, size), and whether they are whole."""
    first = places[0][1]
    length = places[-1][1] + places[-1][2] - first
    large = file if length > _LARGE and isinstance(file, FileBytes) else None
    if large is not None and not views:  # a copy would cost more than a call
        found = {suffix: file.read(at, size) for suffix, at, size in places}
        return found, sum(map(len, found.values())) == sum(size for _, _, size in places)
    # They follow each other, headers between them: one read instead of one for each of them.
    data = file.read(first, length) if large is None else large.view(first, length)
    return {suffix: data[at - first : at - first + size] for suffix, at, size in places}, len(data) == length
