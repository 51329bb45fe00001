"""Writing shards: samples to plain webdataset tars, each with a member index, and one manifest beside them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmret.data.index import IndexWriter, index_path
from mmret.data.remote.address import beside, is_remote, shown
from mmret.data.remote.cache import RemoteCache
from mmret.errors import ConfigError, SampleError

MANIFEST_VERSION = 1
# webdataset cuts a member's name at its first dot, so a key must not hold one; the others would make it a path.
_KEY = re.compile(r"[^./\\\s\x00-\x1f]+")
_MEMBER = re.compile(r"[^./\\\s\x00-\x1f]+(\.[^./\\\s\x00-\x1f]+)*")
_BLOCK = 512


@dataclass(frozen=True)
class Sample:
    """What one sample becomes in a tar: `<key>.json` and `<key>.<suffix>` for each member."""

    key: str
    """Unique in its collection; no dots, slashes or spaces."""
    json: Mapping[str, Any]
    """`query`, `positives`, `negatives` (see `mmret.data.decode`) and whatever else the row says."""
    members: Mapping[str, bytes] = field(default_factory=dict)
    """Suffix ("q.0.webp") -> encoded bytes."""


@dataclass(frozen=True)
class ShardEntry:
    """One shard of a manifest."""

    name: str
    """File, relative to the manifest; or the address (URL, `pipe:` command) of one that lies elsewhere."""
    samples: int
    bytes: int
    """Size of the file as it lies on disk."""
    sha256: str | None = None
    stored: int | None = None
    """Samples that the file holds, where the manifest keeps some of them only; None: `samples`, all."""


@dataclass(frozen=True)
class Manifest:
    """The shards of one collection, in order; the counts make every position an integer before any tar is opened."""

    path: Path
    shards: tuple[ShardEntry, ...]
    keep: str | None = None
    """File of the kept samples (`mmret.data.kept`), relative to the manifest; None: all are."""
    url: str | None = None
    """Where it was fetched from, and what the shards are relative to; `path` is a copy then."""

    def __len__(self) -> int:
        """Samples in all shards."""
        return sum(shard.samples for shard in self.shards)

    def address(self, shard: int) -> str | None:
        """Where shard number `shard` lies if it is not on disk (`mmret.data.remote`); None: it is.

        Raises:
            ConfigError: a manifest from elsewhere names a command, or something relative to one.
        """
        name = self.shards[shard].name
        if self.url is not None:
            return beside(self.url, name)
        return name if is_remote(name) else None

    def shard_path(self, shard: int) -> Path:
        """Where shard number `shard` lies on disk.

        Raises:
            ConfigError: it does not.
        """
        address = self.address(shard)
        if address is not None:
            raise ConfigError(f"{shown(address)} lies elsewhere; this needs shards on disk: copy the collection here")
        return self.path.parent / self.shards[shard].name

    def save(self) -> None:
        """Write the file, all of it or nothing."""
        shards = [{k: v for k, v in asdict(shard).items() if k != "stored" or v is not None} for shard in self.shards]
        keep = {} if self.keep is None else {"keep": self.keep}
        text = json.dumps({"version": MANIFEST_VERSION, **keep, "shards": shards}, indent=1)
        part = self.path.with_name(self.path.name + ".part")
        part.write_text(text + "\n", encoding="utf-8")
        os.replace(part, self.path)

    @classmethod
    def load(cls, path: str | Path) -> Manifest:
        """Read a manifest; one that lies elsewhere is fetched.

        Raises:
            ConfigError: the file is missing, no JSON, of another version, or lacks a field.
            RemoteError: it cannot be fetched.
        """
        url = path if isinstance(path, str) and is_remote(path) else None
        path = Path(path) if url is None else RemoteCache.default().file(url)
        if not path.is_file():
            raise ConfigError(
                f"{path}: no such manifest; shards are packed with mmret.data.write_shards, which writes it"
            )
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            version = table["version"]
            if version != MANIFEST_VERSION:
                raise ConfigError(f"{path}: manifest version {version}, this mmret reads {MANIFEST_VERSION}")
            shards = tuple(
                ShardEntry(str(s["name"]), int(s["samples"]), int(s["bytes"]), s.get("sha256"), s.get("stored"))
                for s in table["shards"]
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path}: not a manifest ({type(error).__name__}: {error}); want "
                '{"version": 1, "shards": [{"name", "samples", "bytes", "sha256"}, ...]}'
            ) from error
        if sum(shard.samples for shard in shards) == 0:
            raise ConfigError(f"{path}: the manifest lists no samples")
        keep = table.get("keep")
        if keep is not None and url is not None:
            keep = str(RemoteCache.default().file(beside(url, keep)))
        return cls(path, shards, keep, url)


def write_shards(
    samples: Iterable[Sample],
    folder: str | Path,
    name: str = "train",
    max_samples: int = 10_000,
    max_mb: float = 500,
    compress: bool = False,
) -> Manifest:
    """Pack samples into `<name>-000000.tar[.gz]`, ..., indexes and `<name>.manifest.json`; the bytes are reproducible.

    Args:
        samples: in the order in which they shall be numbered; may be a generator.
        folder: made if missing; files of the same name are replaced.
        max_samples: per shard.
        max_mb: megabytes (10^6 bytes before compression) of a shard, passed by at most one sample.
        compress: gzip the tars (for small sets that travel; readers inflate them once into a cache).
    Raises:
        SampleError: a key holds a dot, slash or space, occurs twice, or a sample cannot be written as JSON.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    manifest_path = folder / f"{name}.manifest.json"
    # An interrupted rewrite must not leave the old manifest beside new shards.
    manifest_path.unlink(missing_ok=True)
    shards: list[ShardEntry] = []
    seen: set[str] = set()
    writer: _ShardWriter | None = None
    for sample in samples:
        _check(sample, seen)
        if writer is None or writer.samples >= max_samples or writer.size >= max_mb * 1e6:
            if writer is not None:
                shards.append(writer.close())
            suffix = ".tar.gz" if compress else ".tar"
            writer = _ShardWriter(folder / f"{name}-{len(shards):06d}{suffix}")
        writer.write(sample)
    if writer is None:
        raise SampleError(f"{manifest_path}: no samples to write")
    shards.append(writer.close())
    manifest = Manifest(manifest_path, tuple(shards))
    manifest.save()
    return manifest


def file_sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class _ShardWriter:
    """One tar and its index; both get their names only when whole."""

    def __init__(self, path: Path):
        self.path, self.samples = path, 0
        self.part = path.with_name(path.name + ".part")
        self.file = self.part.open("wb")
        # mtime 0 and no file name in the gzip header: the same samples give the same file.
        self.gzip = gzip.GzipFile("", "wb", fileobj=self.file, mtime=0) if path.suffix == ".gz" else None
        self.tar = tarfile.open(fileobj=self.gzip or self.file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self.index = IndexWriter()

    @property
    def size(self) -> int:
        """Bytes of the tar so far, before compression."""
        return self.tar.offset

    def write(self, sample: Sample) -> None:
        """Append a sample's members, the JSON first."""
        try:
            row = json.dumps(sample.json, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except (TypeError, ValueError) as error:
            raise SampleError(f"{self.path.name}:{sample.key}: its json cannot be written ({error})") from error
        members = []
        for suffix, data in (("json", row), *sample.members.items()):
            info = tarfile.TarInfo(f"{sample.key}.{suffix}")
            info.size = len(data)
            self.tar.addfile(info, io.BytesIO(data))
            members.append((suffix, self.tar.offset - -(-len(data) // _BLOCK) * _BLOCK, len(data)))
        self.index.add(sample.key, members)
        self.samples += 1

    def close(self) -> ShardEntry:
        """Finish the files and describe the shard."""
        self.tar.close()
        if self.gzip is not None:
            self.gzip.close()
        self.file.close()
        os.replace(self.part, self.path)
        self.index.save(index_path(self.path), shard_bytes=self.path.stat().st_size)
        return ShardEntry(self.path.name, self.samples, self.path.stat().st_size, file_sha256(self.path))


def _check(sample: Sample, seen: set[str]) -> None:
    if not _KEY.fullmatch(sample.key):
        raise SampleError(
            f"sample key {sample.key!r}: a key holds no dot, slash or white space (names are cut at the first dot)"
        )
    if sample.key in seen:
        raise SampleError(f"sample key {sample.key!r} occurs twice; number the samples, ids belong into the json")
    seen.add(sample.key)
    for suffix in sample.members:
        if suffix == "json" or not _MEMBER.fullmatch(suffix):
            raise SampleError(f"sample {sample.key!r}: member {suffix!r}; want a suffix like q.0.webp, and not json")
