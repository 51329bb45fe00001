"""A folder of bounded size: room is claimed before bytes are written, and made by deleting what is unused for longest.

Layout: `files/<name>/<file name>` what is whole, `parts/` what is being written. Whoever reads a file holds a shared
lock on it, whoever writes a part an exclusive one: what nobody holds may go. Locks end with their process.
"""

from __future__ import annotations

import fcntl
import logging
import os
import uuid
from io import FileIO
from pathlib import Path
from types import TracebackType

from filelock import FileLock

from mmret.data.remote.failure import NoRoom

logger = logging.getLogger(__name__)

_STEP = 64_000_000
"""Most bytes that are claimed ahead, where a size is not known."""


class Room:
    """The folder, as all processes of a machine see it."""

    def __init__(self, folder: Path, max_bytes: int):
        self.folder, self.max_bytes = folder, max_bytes
        self.files, self.parts, self.locks = (folder / name for name in ("files", "parts", "locks"))

    def lock(self, name: str) -> FileLock:
        """One process at a time."""
        self.locks.mkdir(parents=True, exist_ok=True)
        return FileLock(self.locks / f"{name}.lock")

    def open(self, path: Path) -> FileIO | None:
        """A whole file, which stays until it is closed; None: it is not there."""
        try:
            file = FileIO(path, "rb")
        except FileNotFoundError:
            return None
        fcntl.flock(file, fcntl.LOCK_SH)
        if os.fstat(file.fileno()).st_nlink == 0:  # deleted between the two lines
            file.close()
            return None
        os.utime(file.fileno())
        return file

    def used(self) -> int:
        """Bytes of all files and claims."""
        return sum(path.stat().st_size for path in (*self.files.glob("*/*"), *self.parts.glob("*")))

    def make(self, wanted: int) -> None:
        """Delete until `wanted` bytes fit; to be called under the lock "room".

        Raises:
            NoRoom: they do not, beside what is in use.
        """
        for part in self.parts.glob("*"):
            if _is_free(part):
                part.unlink()  # of a process that was killed
        found = [(path, path.stat()) for path in self.files.glob("*/*")]
        used = self.used()
        for path, stat in sorted(found, key=lambda one: one[1].st_mtime_ns):
            if used + wanted <= self.max_bytes:
                return
            if _is_free(path):
                logger.info("data cache: deleting %s (%.1f MB, unused for longest)", path.name, stat.st_size / 1e6)
                path.unlink()
                path.parent.rmdir()
                used -= stat.st_size
        if used + wanted > self.max_bytes:
            raise NoRoom(
                f"{self.folder}: no room for {wanted / 1e6:,.1f} MB: {used / 1e6:,.1f} MB are in use, the limit is "
                f"{self.max_bytes / 1e9:g} GB; raise MMRET_DATA_CACHE_GB"
            )


class Part:
    """A file on its way. What is not published never existed."""

    def __init__(self, room: Room, size: int = 0):
        """Claim `size` bytes, as far as known; more are claimed when they come."""
        self.room, self.written, self.claimed = room, 0, 0
        room.parts.mkdir(parents=True, exist_ok=True)
        self.path = room.parts / uuid.uuid4().hex
        with room.lock("room"):
            room.make(size)
            self.file = self.path.open("wb")
            fcntl.flock(self.file, fcntl.LOCK_EX)
            self._claim(size)

    def __enter__(self) -> Part:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()
        self.path.unlink(missing_ok=True)

    def write(self, data: bytes) -> int:
        """Append; gives the number of bytes.

        Raises:
            NoRoom: the limit is reached.
        """
        end = self.written + len(data)
        if end > self.claimed:
            with self.room.lock("room"):
                ahead = max(end, min(2 * self.claimed, self.claimed + _STEP))
                self.room.make(ahead - self.claimed)
                self._claim(ahead)
        self.file.write(data)
        self.written = end
        return len(data)

    def flush(self) -> None:
        """What was written can be read at `path`."""
        self.file.flush()

    def publish(self, target: Path) -> None:
        """Make it a whole file."""
        self.file.flush()
        self.file.truncate(self.written)
        os.fsync(self.file.fileno())
        with self.room.lock("room"):
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self.path, target)

    def _claim(self, size: int) -> None:
        # A sparse file of the size to come: the claim is what others see of it on disk.
        self.file.truncate(size)
        self.claimed = size


def _is_free(path: Path) -> bool:
    with FileIO(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
