"""Everything that is wrong with one shard, or with some rows of a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import numpy as np

from mmret.data.care.collection import Collection
from mmret.data.care.parallel import Piece
from mmret.data.decode import MissingField, UnknownReference
from mmret.data.index import ShardIndex, index_path
from mmret.data.layout import DottedKey, HalfSample
from mmret.data.reader import RawSample
from mmret.data.remote import PIPE, RemoteCache, RemoteDamaged, RemoteMissing, remote_index
from mmret.data.scan import Fault, Scan, scan_shard
from mmret.data.shards import file_sha256
from mmret.errors import SampleError
from mmret.types import EncodedImage

KINDS: dict[type[SampleError], str] = {
    DottedKey: "dotted key",
    HalfSample: "half sample",
    MissingField: "missing field",
    UnknownReference: "unknown id",
}
"""What decoding raises -> kind of fault; anything else is a broken "row"."""
LISTED = 200
"""Faults of one piece that are kept with their text; all are counted."""


@dataclass
class Checked:
    """What the check of a piece found."""

    samples: int = 0
    pictures: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    keys: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    """[samples] hashes of the keys, in tar order."""

    def add(self, fault: Fault) -> None:
        """Count a fault, and keep it if there are few."""
        self.counts[fault.kind] += 1
        if len(self.faults) < LISTED:
            self.faults.append(fault)


def check_piece(collection: Collection, piece: Piece) -> Checked:
    """A shard with all its samples, their documents and pictures; or rows of a table with their pictures."""
    return _check_shard(collection, piece.start) if piece.part == "shard" else _check_rows(collection, piece)


def _check_shard(collection: Collection, number: int) -> Checked:
    """Raises RemoteError where a network is at fault: nothing is known of the shard then."""
    entry, listed = collection.manifest.shards[number], collection.manifest.path.name
    try:
        with collection.tar(number) as path:
            return _check_tar(collection, number, path)
    except RemoteMissing as error:
        kind, text = "missing shard", f"{error}; {listed} lists it"
    except RemoteDamaged as error:
        kind, text = "checksum", str(error)
    found = Checked()
    found.add(Fault(kind, entry.name, "", f"{entry.name}: {text}"))
    return found


def _check_tar(collection: Collection, number: int, path: Path) -> Checked:
    found = Checked()
    entry, listed = collection.manifest.shards[number], collection.manifest.path.name

    def fault(kind: str, text: str) -> None:
        found.add(Fault(kind, entry.name, "", f"{entry.name}: {text}"))

    if not path.is_file():
        fault("missing shard", f"not there, but {listed} lists it; copy it, or index the folder again")
        return found
    size = path.stat().st_size
    if collection.manifest.address(number) is not None:
        pass  # looked at when it was fetched; here it may be inflated
    elif size != entry.bytes:
        fault("size", f"{size:,} bytes, {listed} says {entry.bytes:,}; copy it again")
    elif entry.sha256 and file_sha256(path) != entry.sha256:
        fault("checksum", f"its content is not that of which {listed} has the checksum; copy it again")
    scan = scan_shard(path)
    for one in scan.faults:
        found.add(one)
    stored = entry.samples if entry.stored is None else entry.stored
    if len(scan.samples) != stored:
        fault("count", f"{len(scan.samples):,} whole samples, {listed} says {stored:,}")
    if (wrong := _index_fault(collection, number, scan)) is not None:
        fault("index", wrong)
    samples = collection.kept.select(number, scan.samples)
    found.samples = len(samples)
    found.keys = np.array([_hash(key) for key, _ in samples], np.uint64)
    for (key, _), raw in zip(samples, collection.read(path, samples)):
        for kind, text in _sample_faults(collection, raw, found):
            found.add(Fault(kind, entry.name, key, text))
    return found


def _index_fault(collection: Collection, number: int, scan: Scan) -> str | None:
    """How the sidecar differs from the tar; None: not at all."""
    again = "; `mmret data index` makes it"
    address, entry = collection.manifest.address(number), collection.manifest.shards[number]
    if address is not None:
        if address.startswith(PIPE):
            return None  # a command has none; it is made where the shard is fetched
        try:
            index = remote_index(RemoteCache.default(), address, entry)
        except (RemoteMissing, RemoteDamaged) as error:
            return f"{error}{again}"
    else:
        path = collection.manifest.shard_path(number)
        try:
            index = ShardIndex(index_path(path))
        except SampleError as error:
            return f"{error}{again}"
        if index.shard_bytes != path.stat().st_size:
            return f"its index is of a tar of {index.shard_bytes:,} bytes{again} anew"
    if scan.faults:
        return None  # said already; what would be compared is not whole
    if len(index) != len(scan.samples):
        return f"its index has {len(index):,} samples, the tar {len(scan.samples):,}{again} anew"
    for at, (key, members) in enumerate(scan.samples):
        if index.key(at) != key or index.members(at) != members:
            return f"its index has sample {at} as {index.key(at)!r}, the tar as {key!r}, or elsewhere{again} anew"
    return None


def _sample_faults(collection: Collection, raw: RawSample, found: Checked) -> Iterator[tuple[str, str]]:
    """(kind, text) of each thing that is wrong with a sample; a manifest alone has no tables, so their ids pass."""
    decoder, bare = collection.decoder, collection.bare
    try:
        sample = decoder.parse(raw)
    except SampleError as error:
        if not (bare and isinstance(error, UnknownReference)):
            yield _kind(error), str(error)
        return
    contents = [sample.query]
    if collection.classes is not None:
        try:
            collection.classes.target(raw.name, sample.meta)
        except SampleError as error:
            yield "label", str(error)
    for side, references in (("positives", sample.positives), ("negatives", sample.negatives)):
        for reference in references:
            if bare and isinstance(reference, str):
                continue
            try:
                contents.append(decoder.document(sample, side, reference))
            except SampleError as error:
                if not (bare and isinstance(error, UnknownReference)):
                    yield _kind(error), str(error)
    # Pictures of tables are looked at once, with the tables.
    every = (image for content in contents for image in content.pictures)
    for image in {image.name: image for image in every if image.name.startswith(f"{raw.name}.")}.values():
        found.pictures += 1
        try:
            image.decode()
        except SampleError as error:
            yield "picture", str(error)


def _check_rows(collection: Collection, piece: Piece) -> Checked:
    found = Checked()
    table = collection.documents if piece.part == "documents" else collection.images
    assert table is not None
    for number in range(piece.start, piece.stop):
        row = table.row(number, ("id", "text", "image"))
        name = f"{table.path.name}:{row['id']}"
        if row["image"] is None:
            if not row["text"]:
                found.add(Fault("row", table.path.name, row["id"], f"{name}: neither text nor picture"))
            continue
        found.pictures += 1
        try:
            EncodedImage(row["image"], name).decode()
        except SampleError as error:
            found.add(Fault("picture", table.path.name, row["id"], str(error)))
    return found


def _kind(error: SampleError) -> str:
    return next((kind for cls, kind in KINDS.items() if isinstance(error, cls)), "row")


def _hash(key: str) -> int:
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big")
