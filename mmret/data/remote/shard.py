"""Shards that lie elsewhere, opened: whole in the cache, or where they are, each with its member index."""

from __future__ import annotations

import os
from io import FileIO
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from mmret.data.index import ShardIndex, read_members, shard_stem
from mmret.data.remote.address import PIPE, file_name, renamed, shown
from mmret.data.remote.cache import RemoteCache
from mmret.data.remote.failure import RemoteDamaged, RemoteMissing
from mmret.data.remote.transfer import read_range
from mmret.errors import SampleError

if TYPE_CHECKING:
    from mmret.data.shards import ShardEntry


class ShardBytes(Protocol):
    """An open shard."""

    def read(self, start: int, length: int) -> bytes:
        """At most `length` bytes from `start` on."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


class FileBytes:
    """A file; reads carry their offset, so that forked processes may share it."""

    def __init__(self, file: FileIO):
        self.file = file
        self._map: memoryview | None = None

    def read(self, start: int, length: int) -> bytes:
        """At most `length` bytes from `start` on."""
        # Asked for each time: a closed file's number may be another file's by now, and this raises.
        return os.pread(self.file.fileno(), length, start)

    def view(self, start: int, length: int) -> memoryview:
        """The same where it lies in the page cache, without a copy; shorter where the file is.

        A file that shrinks is noticed here. One that shrinks while a view of it is read kills the process (SIGBUS), as
        with every mapped file; hence for what is used at once.
        """
        if os.fstat(self.file.fileno()).st_size < start + length:
            return memoryview(self.read(start, length))
        if self._map is None:
            self._map = memoryview(mmap(self.file.fileno(), 0, access=ACCESS_READ))
        return self._map[start : start + length]

    def close(self) -> None:
        """Let go; in the cache it may be deleted from now on."""
        self._map = None
        self.file.close()


class RangeBytes:
    """An address, asked anew for each part."""

    def __init__(self, address: str, size: int):
        self.address, self.size = address, size

    def read(self, start: int, length: int) -> bytes:
        """`length` bytes from `start` on.

        Raises:
            RemoteError: they cannot be had.
        """
        return read_range(self.address, start, length, self.size)

    def close(self) -> None:
        """Nothing is held."""


def open_fetched(cache: RemoteCache, address: str, entry: ShardEntry) -> tuple[FileBytes, ShardIndex]:
    """A shard's copy in the cache, fetched unless it is there, and its index: the one beside it, else one made here.

    Raises:
        NoRoom: the cache has none for it.
        RemoteError: it cannot be fetched, or is not what the manifest says.
        SampleError: it does not inflate, or is no tar.
    """
    file = cache.shard(address, entry.bytes, entry.sha256)
    try:
        return FileBytes(file), remote_index(cache, address, entry, Path(cast(str, file.name)))
    except BaseException:
        file.close()
        raise


def open_ranged(cache: RemoteCache, address: str, entry: ShardEntry) -> tuple[RangeBytes, ShardIndex]:
    """A shard where it lies, and the index beside it.

    Raises:
        RemoteMissing: there is no index.
        RemoteError: it cannot be fetched, or is not what the manifest says.
    """
    return RangeBytes(address, entry.bytes), remote_index(cache, address, entry)


def remote_index(cache: RemoteCache, address: str, entry: ShardEntry, copy: Path | None = None) -> ShardIndex:
    """The member index beside a shard; where there is none, that of its copy.

    Raises:
        RemoteMissing: there is neither.
        RemoteDamaged: it is of another shard, or no index.
        SampleError: the copy is no whole tar.
    """
    version = f"{entry.bytes} {entry.sha256}"
    where = index_address(address)
    try:
        if address.startswith(PIPE):
            raise RemoteMissing(f"{address}: a command has no member index beside it")
        file = cache.sidecar(where, version)
    except RemoteMissing:
        if copy is None:
            raise
        whole = copy
        file = cache.made(where, f"{version} made here", lambda: read_members(whole).to_bytes(entry.bytes))
    with file:
        try:
            index = ShardIndex(Path(cast(str, file.name)))
        except SampleError as error:
            raise RemoteDamaged(f"{shown(where)}: {error}; upload it again") from error
    stored = entry.samples if entry.stored is None else entry.stored
    if len(index) != stored or index.shard_bytes != entry.bytes:
        raise RemoteDamaged(
            f"{shown(where)}: of {len(index):,} samples in {index.shard_bytes:,} bytes, the manifest says {stored:,} "
            f"in {entry.bytes:,}: they are of different versions; upload shard, index and manifest together"
        )
    return index


def index_address(address: str) -> str:
    """Where the member index of a shard lies; of a command: what its index made here is named by."""
    name = shard_stem(Path(file_name(address))) + ".index.arrow"
    return f"{address} -> {name}" if address.startswith(PIPE) else renamed(address, name)
