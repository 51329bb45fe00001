"""Where each member of each sample of a shard lies: the sidecar that lets a reader seek instead of parsing a tar."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from mmret.data.scan import scan_shard
from mmret.errors import SampleError

_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("members", pa.list_(pa.dictionary(pa.int32(), pa.string()))),
        ("offsets", pa.list_(pa.int64())),
        ("sizes", pa.list_(pa.int64())),
    ]
)


def shard_stem(path: Path) -> str:
    """File name without `.tar` or `.tar.gz`."""
    for suffix in (".tar.gz", ".tgz", ".tar"):
        if path.name.endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def index_path(shard: Path) -> Path:
    """The sidecar's place: `<shard stem>.index.arrow` beside the shard."""
    return shard.with_name(shard_stem(shard) + ".index.arrow")


class IndexWriter:
    """Collects the members of one shard."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.names: dict[str, int] = {}
        self.ends, self.codes, self.offsets, self.sizes = [0], [], [], []

    def add(self, key: str, members: Sequence[tuple[str, int, int]]) -> None:
        """One sample: its members as (suffix, offset of the first byte in the tar, size)."""
        self.keys.append(key)
        for suffix, offset, size in members:
            self.codes.append(self.names.setdefault(suffix, len(self.names)))
            self.offsets.append(offset)
            self.sizes.append(size)
        self.ends.append(len(self.codes))

    def to_bytes(self, shard_bytes: int) -> bytes:
        """The sidecar; `shard_bytes` ties it to its shard."""
        ends = pa.array(self.ends, pa.int32())
        members = pa.DictionaryArray.from_arrays(
            pa.array(self.codes, pa.int32()), pa.array(list(self.names), pa.string())
        )
        lists = [members, pa.array(self.offsets, pa.int64()), pa.array(self.sizes, pa.int64())]
        columns = [pa.array(self.keys, pa.string()), *(pa.ListArray.from_arrays(ends, values) for values in lists)]
        schema = _SCHEMA.with_metadata({"shard_bytes": str(shard_bytes)})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, schema) as writer:
            writer.write_batch(pa.record_batch(columns, schema=schema))
        return sink.getvalue().to_pybytes()

    def save(self, path: Path, shard_bytes: int) -> None:
        """Write the sidecar, all of it or nothing."""
        part = path.with_name(path.name + ".part")
        part.write_bytes(self.to_bytes(shard_bytes))
        os.replace(part, path)


class _Texts:
    """A column of texts, read without Arrow's scalars."""

    def __init__(self, column: pa.StringArray) -> None:
        _, ends, data = column.buffers()
        self.ends = memoryview(ends).cast("i")[column.offset : column.offset + len(column) + 1]
        self.data = memoryview(data) if data is not None else memoryview(b"")

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, row: int) -> str:
        return str(self.data[self.ends[row] : self.ends[row + 1]], "utf-8")


class ShardIndex:
    """The members of one shard, memory-mapped."""

    def __init__(self, path: Path):
        """Open a sidecar.

        Raises:
            SampleError: the file is missing or no index.
        """
        if not path.is_file():
            raise SampleError(f"{path}: the shard has no member index; mmret.data.index_shard makes it")
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            batch = reader.get_batch(0)
            members, offsets, sizes = (batch.column(name) for name in ("members", "offsets", "sizes"))
            self.keys = _Texts(batch.column("key"))
            self._names: list[str] = members.values.dictionary.to_pylist()
            # Views, as they give Python's own integers: numpy's scalars would take most of a lookup's time.
            self._ends = memoryview(members.offsets.to_numpy())
            self._codes = memoryview(members.values.indices.to_numpy())
            self.offsets = memoryview(offsets.values.to_numpy())
            self.sizes = memoryview(sizes.values.to_numpy())
            self.only: str | None = None
            """Suffix, where each sample has one member and all the same: then sample i is at offsets[i], sizes[i]."""
            if len(self._codes) == batch.num_rows and len(self._names) == 1:
                self.only = self._names[0]
            self.shard_bytes = int((reader.schema.metadata or {})[b"shard_bytes"])
        except (pa.ArrowException, KeyError, AttributeError, TypeError, ValueError) as error:
            raise SampleError(
                f"{path}: not a member index ({error}); make it again with mmret.data.index_shard"
            ) from error

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, sample: int) -> str:
        """Key of a sample."""
        return self.keys[sample]

    def members(self, sample: int) -> list[tuple[str, int, int]]:
        """(suffix, offset, size) of each member of a sample, in tar order."""
        first, last = self._ends[sample], self._ends[sample + 1]
        return [(self._names[self._codes[at]], self.offsets[at], self.sizes[at]) for at in range(first, last)]


def index_shard(shard: str | Path) -> Path:
    """Make the sidecar of a tar that somebody else wrote, by reading it once.

    Members of one sample must follow each other, as webdataset wants them; a name is cut at its file name's first dot.

    Raises:
        SampleError: the tar is truncated, or a key comes back after other keys (a duplicate or a dotted key).
    """
    shard = Path(shard)
    path = index_path(shard)
    read_members(shard).save(path, shard.stat().st_size)
    return path


def read_members(shard: Path) -> IndexWriter:
    """The members of a tar.

    Raises:
        SampleError: as `index_shard`.
    """
    scan = scan_shard(shard)
    if scan.faults:
        raise SampleError(scan.faults[0].text)
    writer = IndexWriter()
    for key, members in scan.samples:
        writer.add(key, members)
    return writer
