"""Copies of files that lie elsewhere: fetched whole, once for all processes of a machine, seen only when checked."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from io import FileIO
from pathlib import Path
from typing import cast

from mmret.data.remote.address import file_name, shown
from mmret.data.remote.failure import WrongBytes
from mmret.data.remote.room import Part, Room
from mmret.data.remote.transfer import fetch, file_version
from mmret.errors import ConfigError, RemoteError, SampleError

DEFAULT_GB = 50.0


class RemoteCache:
    """The folder and its limit. Pickles as that."""

    def __init__(self, folder: Path, max_gb: float):
        self.folder, self.max_gb = folder, max_gb
        self.room = Room(folder, int(max_gb * 1e9))

    @classmethod
    def default(cls) -> RemoteCache:
        """The folder `MMRET_DATA_CACHE`, else one in the user's cache, of `MMRET_DATA_CACHE_GB` (50) 10^9 bytes.

        Raises:
            ConfigError: the limit is no number above 0.
        """
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = os.environ.get("MMRET_DATA_CACHE") or Path(root) / "mmret" / "remote"
        text = os.environ.get("MMRET_DATA_CACHE_GB") or str(DEFAULT_GB)
        try:
            limit = float(text)
        except ValueError:
            limit = 0.0
        if not 0 < limit < float("inf"):
            raise ConfigError(f"MMRET_DATA_CACHE_GB={text!r}: want the cache's limit in GB, a number above 0")
        return cls(Path(folder).expanduser(), limit)

    def shard(self, address: str, size: int, sha256: str | None) -> FileIO:
        """A shard's tar, inflated if it lies there compressed; it stays until it is closed.

        Args:
            size: bytes that the manifest says.
        Raises:
            NoRoom: it does not fit beside what is in use.
            RemoteError: it cannot be fetched; `RemoteMissing` and `RemoteDamaged` say more.
            SampleError: it does not inflate.
        """
        name = file_name(address)
        inflate = name.endswith("gz")
        target = self._target(address, f"{size} {sha256}", name.removesuffix(".gz").replace(".tgz", ".tar"))

        def take(pieces: Iterator[bytes]) -> None:
            with Part(self.room, size) as part:
                _copy(pieces, part, size, sha256)
                if inflate:
                    self._inflate(part, target, address)
                else:
                    part.publish(target)

        return self._once(target, lambda: fetch(address, take))

    def made(self, address: str, version: str, make: Callable[[], bytes]) -> FileIO:
        """What `make` gives for the file at `address`, which has none; it stays until it is closed."""

        def write() -> None:
            data = make()
            with Part(self.room, len(data)) as part:
                part.write(data)
                part.publish(target)

        target = self._target(address, version)
        return self._once(target, write)

    def sidecar(self, address: str, version: str) -> FileIO:
        """A small file that belongs to one version of another; it stays until it is closed.

        Raises:
            RemoteError: it cannot be fetched; `RemoteMissing`: it is not there.
        """
        target = self._target(address, version)

        def take(pieces: Iterator[bytes]) -> None:
            with Part(self.room) as part:
                _copy(pieces, part)
                part.publish(target)

        return self._once(target, lambda: fetch(address, take))

    def file(self, address: str) -> Path:
        """A manifest or table in its present version; the copy stays as long as this process.

        Raises:
            RemoteError: it cannot be fetched.
        """
        version = file_version(address)
        if version is not None:
            held = self.sidecar(address, version)
        else:
            # Nobody says which version it is: fetched each time, and named by its content.
            def take(pieces: Iterator[bytes]) -> Path:
                with Part(self.room) as part:
                    target = self._target(address, _copy(pieces, part))
                    part.publish(target)
                    return target

            with self._faults():
                target = fetch(address, take)
            held = self._once(target, lambda: self._gone(target))
        path = Path(cast(str, held.name))
        _held.setdefault(path, held)
        return path

    def _target(self, address: str, version: str, name: str | None = None) -> Path:
        key = blake2b(f"{address}\0{version}".encode(), digest_size=16).hexdigest()
        return self.room.files / key / (name or file_name(address))

    def _once(self, target: Path, write: Callable[[], None]) -> FileIO:
        """The open file; if there is none, one process writes it while the others wait."""
        with self._faults():
            while (file := self.room.open(target)) is None:
                with self.room.lock(target.parent.name):
                    if not target.is_file():
                        write()
            return file

    def _inflate(self, part: Part, target: Path, address: str) -> None:
        part.flush()
        try:
            with gzip.open(part.path, "rb") as packed, Part(self.room) as plain:
                shutil.copyfileobj(packed, plain, 1 << 20)
                plain.publish(target)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise SampleError(f"{shown(address)}: the shard does not inflate ({error}); upload it again") from error

    def _gone(self, target: Path) -> None:
        raise RemoteError(f"{target}: deleted right after it was fetched; the cache is full, raise MMRET_DATA_CACHE_GB")

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RemoteError(
                f"{self.folder}: the data cache cannot be used ({error}); set MMRET_DATA_CACHE to a folder on a local "
                "disk with room"
            ) from error


_held: dict[Path, FileIO] = {}
"""Manifests and tables that this process reads."""


def _copy(pieces: Iterator[bytes], part: Part, size: int | None = None, sha256: str | None = None) -> str:
    """Write all pieces; gives their SHA-256.

    Raises:
        WrongBytes: they are not the bytes that the manifest knows.
    """
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
        part.write(piece)
        if size is not None and part.written > size:
            raise WrongBytes(f"more than {size:,} bytes came, which the manifest says")
    if size is not None and part.written < size:
        raise WrongBytes(f"{part.written:,} of {size:,} bytes came")
    if sha256 is not None and digest.hexdigest() != sha256:
        raise WrongBytes("its bytes have another checksum than the manifest says")
    return digest.hexdigest()
