"""Compressed shards: inflated once into a local cache, so that a reader can seek in them."""

from __future__ import annotations

import gzip
import os
import shutil
import uuid
import zlib
from hashlib import blake2b
from pathlib import Path

from mmret.data.index import shard_stem
from mmret.errors import SampleError


def shard_cache() -> Path:
    """Folder of inflated shards; safe to delete."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "mmret" / "shards"


def seekable(shard: Path) -> Path:
    """The shard itself, or its inflated copy, made now if this version of the shard has none.

    Several processes may do this at once: each writes a file of its own, the last rename wins, the content is the same.

    Raises:
        SampleError: the shard is missing, truncated or no gzip file.
    """
    if not shard.name.endswith("gz"):
        return shard
    try:
        stat = shard.stat()
        version = f"{shard.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}"
        name = f"{blake2b(version.encode(), digest_size=12).hexdigest()}-{shard_stem(shard)}.tar"
        target = shard_cache() / name
        if target.is_file():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{name}.{uuid.uuid4().hex}.part")
        try:
            with gzip.open(shard, "rb") as packed, part.open("wb") as plain:
                shutil.copyfileobj(packed, plain, 1 << 20)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, EOFError, zlib.error) as error:
        raise SampleError(f"{shard}: the shard does not inflate ({error}); truncated? Copy it again") from error
    return target
