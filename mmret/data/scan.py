"""A tar read from end to end: the members of each of its samples, and what is wrong with it as a tar."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

_END = 2 * 512
"""Two blocks of zeros end a tar."""


@dataclass(frozen=True)
class Fault:
    """Something wrong, and where."""

    kind: str
    """"truncated", "duplicate key", ...: what reports count by."""
    shard: str
    """File name."""
    key: str
    """Of the sample; empty: the shard as a whole."""
    text: str
    """What, with shard and key."""


@dataclass
class Scan:
    """What a tar holds."""

    samples: list[tuple[str, list[tuple[str, int, int]]]] = field(default_factory=list)
    """(key, members as (suffix, offset of the first byte, size)), in tar order; not one in which a broken tar ends."""
    faults: list[Fault] = field(default_factory=list)


def scan_shard(shard: Path) -> Scan:
    """Read the headers of a tar, plain or gzip.

    Members of one sample follow each other, as webdataset wants them; a name is cut at its file name's first dot.
    """
    scan, seen = Scan(), set()
    broken = ""
    with open_tar(shard) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for info in tar:
                    named = _split(info)
                    if named is not None:
                        _add(scan, seen, shard, *named, (info.offset_data, info.size))
            file.seek(tar.offset)
            rest = file.read(_END)
            # Without its end a tar was cut, maybe between members, where tarfile sees nothing wrong; and what is no
            # header at all it takes for the end.
            if any(rest):
                broken = "not a whole tar (what follows is no header) near key"
            elif len(rest) < _END:
                broken = "the tar ends in the middle of, or right after, key"
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            broken = f"not a whole tar ({error}) near key"
    if broken:
        last = scan.samples[-1][0] if scan.samples else ""
        scan.faults.append(Fault("truncated", shard.name, last, f"{shard.name}: {broken} {last!r}; copy it again"))
        del scan.samples[-1:]
    return scan


def open_tar(shard: Path) -> BinaryIO:
    """The bytes of a tar, inflated as they are read."""
    return cast(BinaryIO, gzip.open(shard, "rb")) if shard.name.endswith("gz") else shard.open("rb")


def _split(info: tarfile.TarInfo) -> tuple[str, str] | None:
    """Key, with its folders, and suffix of a member; None: it belongs to no sample."""
    head, dot, suffix = info.name.rpartition("/")[2].partition(".")
    if not info.isfile() or not head or not dot:
        return None
    return info.name[: len(info.name) - len(suffix) - 1], suffix


def _add(scan: Scan, seen: set[str], shard: Path, key: str, suffix: str, place: tuple[int, int]) -> None:
    """One member to the sample it belongs to; its faults noted."""
    new, twice = not scan.samples or scan.samples[-1][0] != key, ""
    if new and key in seen:
        twice = "the key occurs twice, or holds a dot (names are cut at the first dot); rename it: one key a sample"
    elif not new and any(suffix == name for name, _, _ in scan.samples[-1][1]):
        twice = f"two members end in .{suffix}; the key occurs twice"
    if twice:
        scan.faults.append(Fault("duplicate key", shard.name, key, f"{shard.name}:{key}: {twice}"))
    if new or twice:
        scan.samples.append((key, []))
        seen.add(key)
    scan.samples[-1][1].append((suffix, *place))
