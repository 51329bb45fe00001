"""What a build has finished: a record beside its output, so that a second run redoes only what is missing."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from mmret.data.index import index_path
from mmret.data.shards import Manifest

logger = logging.getLogger(__name__)

VERSION = 1
"""Raise it when the same input gives other output."""
_WHOLE = 64 * 2**20
"""Input files of up to so many bytes are told apart by all of them, larger ones by blocks."""
_BLOCKS, _BLOCK = 256, 2**16
"""How many of a large file, spread evenly, and their bytes."""


@dataclass
class Counts:
    """What became of the rows of a table."""

    rows: int = 0
    """Read."""
    kept: int = 0
    """Written."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Reason -> rows not written."""
    first: dict[str, str] = field(default_factory=dict)
    """Reason -> the first row it happened to."""

    def leave_out(self, reason: str, row: str) -> None:
        """Count a row that is not written."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1
        self.first.setdefault(reason, row)

    def add(self, other: Counts) -> None:
        """Join with the counts of another part."""
        self.rows, self.kept = self.rows + other.rows, self.kept + other.kept
        for reason, count in other.left_out.items():
            self.left_out[reason] = self.left_out.get(reason, 0) + count
            self.first.setdefault(reason, other.first.get(reason, ""))


@dataclass(frozen=True)
class Built:
    """One split of one dataset as it now lies on disk."""

    name: str
    """"evqa/test"."""
    manifest: Path
    passages: Path | None
    """Documents table, if it has one of its own."""
    queries: Counts
    documents: Counts
    skipped: bool
    """An earlier run had finished it."""


def fingerprint(files: Sequence[Path], options: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the output: the input files by name, size and content (of large ones blocks), and the options."""
    return {
        "version": VERSION,
        "files": [[file.name, file.stat().st_size, _digest(file)] for file in files],
        "options": json.loads(json.dumps(options)),
    }


def _digest(file: Path) -> str:
    size, digest = file.stat().st_size, blake2b(digest_size=12)
    step = (size - _BLOCK) // (_BLOCKS - 1)
    with file.open("rb") as opened:
        for number in range(_BLOCKS if size > _WHOLE else 0):
            opened.seek(number * step)
            digest.update(opened.read(_BLOCK))
        if size <= _WHOLE:
            digest.update(opened.read())
    return digest.hexdigest()


def finished(record: Path, made_from: Mapping[str, Any]) -> Counts | None:
    """The counts of an earlier build of the same; None: it has to be done."""
    if not record.is_file():
        return None
    try:
        saved = json.loads(record.read_text(encoding="utf-8"))
        return Counts(**saved["counts"]) if saved["made_from"] == made_from else None
    except (ValueError, KeyError, TypeError):
        return None


def finish(record: Path, made_from: Mapping[str, Any], counts: Counts) -> None:
    """Say that a piece is whole; written last, all of it or nothing."""
    part = record.with_name(record.name + ".part")
    part.write_text(json.dumps({"made_from": made_from, "counts": asdict(counts)}, indent=1) + "\n", encoding="utf-8")
    os.replace(part, record)


def write_once(
    path: Path, made_from: Mapping[str, Any], write: Callable[[Counts], None], keep: bool = True
) -> tuple[Counts, bool]:
    """What became of the rows of one file, and whether an earlier run had written it; else `write` does.

    Args:
        path: a table, or the manifest of shards (.json).
        keep: false: what it rests on is new, so it is written anew.
    """
    record = path.with_name(f"{path.name.partition('.')[0]}.build.json")
    counts = finished(record, made_from) if keep else None
    if counts is not None and (whole_shards(path) if path.suffix == ".json" else path.is_file()):
        return counts, True
    record.unlink(missing_ok=True)
    counts = Counts()
    write(counts)
    finish(record, made_from, counts)
    for reason, number in counts.left_out.items():
        logger.warning("%s: %d left out: %s (first: %s)", path.name, number, reason, counts.first[reason])
    return counts, False


def whole_shards(manifest: Path) -> bool:
    """Are the manifest and all of its shards there?"""
    if not manifest.is_file():
        return False
    listed = Manifest.load(manifest)
    paths = [listed.shard_path(number) for number in range(len(listed.shards))]
    return all(path.is_file() and path.stat().st_size == shard.bytes for path, shard in zip(paths, listed.shards))


def remove_shards(manifest: Path) -> None:
    """Remove the shards of an earlier build with other settings; they would only fill the disk."""
    if not manifest.is_file():
        return
    old = Manifest.load(manifest)
    manifest.unlink()
    for number in range(len(old.shards)):
        for file in (old.shard_path(number), index_path(old.shard_path(number))):
            file.unlink(missing_ok=True)
