"""The pieces of a build, and what is finished of them: so it can be stopped, shared out, and joined."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import yaml

from mmret.data.index import index_path
from mmret.data.shards import Manifest, ShardEntry
from mmret.data.sources.record import Counts
from mmret.errors import ConfigError, SampleError


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of one file: what is built in one go."""

    first: int
    """Number of its first row among those of all files."""
    rows: int
    file: int = 0
    """Number of the file."""
    row: int = 0
    """Number of its first row in that file."""
    at: int = 0
    """Byte at which that row begins, in a text file."""


@dataclass(frozen=True)
class Done:
    """A finished piece."""

    counts: Counts
    shards: tuple[ShardEntry, ...]
    left_out: list[list[str]]
    """[reason, which] of each row, or picture, that was left out."""


@dataclass(frozen=True)
class Plan:
    """All pieces of a collection; the same for every task that builds a slice of it.

    In the folder: `<name>.pieces/` with the plan and a record for each finished piece, the shards
    `<name>-<piece>-<shard>.tar`, and when all is done `<name>.manifest.json`, the data spec `<name>.yaml`, and the list
    `<name>.left_out.jsonl`.
    """

    folder: Path
    name: str
    made_from: Mapping[str, Any]
    """`fingerprint` of input and options."""
    pieces: tuple[Piece, ...]
    spec: Mapping[str, Any]
    """What the data spec is to say."""

    @property
    def manifest(self) -> Path:
        """Of all shards; there when all pieces are."""
        return self.folder / f"{self.name}.manifest.json"

    @property
    def spec_file(self) -> Path:
        """The data spec."""
        return self.folder / f"{self.name}.yaml"

    @property
    def left_out_file(self) -> Path:
        """One line for each row or picture that was left out."""
        return self.folder / f"{self.name}.left_out.jsonl"

    @property
    def records(self) -> Path:
        """Folder of the plan and of what is finished."""
        return self.folder / f"{self.name}.pieces"

    @cached_property
    def digest(self) -> str:
        """Tells this build from others of its name."""
        return blake2b(json.dumps([self.made_from, self.name]).encode(), digest_size=12).hexdigest()

    def save(self) -> None:
        """Write the plan beside its records."""
        self.records.mkdir(parents=True, exist_ok=True)
        stored = {"made_from": self.made_from, "pieces": [list(asdict(p).values()) for p in self.pieces]}
        write_whole(self.records / "plan.json", json.dumps(stored | {"spec": self.spec}) + "\n")

    @classmethod
    def load(cls, folder: Path, name: str) -> Plan | None:
        """The plan of an earlier task or run; None: there is none that can be read."""
        try:
            stored = json.loads((folder / f"{name}.pieces" / "plan.json").read_text(encoding="utf-8"))
            pieces = tuple(Piece(*numbers) for numbers in stored["pieces"])
            return cls(folder, name, stored["made_from"], pieces, stored["spec"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def done(self, number: int) -> Done | None:
        """What became of a piece; None: it has to be built."""
        try:
            stored = json.loads((self.records / f"{number:05d}.json").read_text(encoding="utf-8"))
            if stored["digest"] != self.digest:
                return None
            shards = tuple(ShardEntry(**shard) for shard in stored["shards"])
            for shard in shards:
                path = self.folder / shard.name
                if path.stat().st_size != shard.bytes or not index_path(path).is_file():
                    return None
            return Done(Counts(**stored["counts"]), shards, stored["left_out"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def finish(self, number: int, done: Done) -> None:
        """Say that a piece is whole; written last."""
        stored = {
            "digest": self.digest,
            "counts": asdict(done.counts),
            "shards": [asdict(shard) for shard in done.shards],
            "left_out": done.left_out,
        }
        write_whole(self.records / f"{number:05d}.json", json.dumps(stored) + "\n")

    def clear(self, number: int) -> None:
        """Remove what a killed task left of a piece."""
        for file in self.folder.glob(f"{self.name}-{number:05d}-*"):
            file.unlink()

    def remove(self) -> None:
        """Remove all of it: input or options are others now. An edited data spec stays."""
        self.manifest.unlink(missing_ok=True)
        self.left_out_file.unlink(missing_ok=True)
        if self.spec_file.is_file() and self.spec_file.read_text(encoding="utf-8") == self._spec_text():
            self.spec_file.unlink()
        for number in range(len(self.pieces)):
            self.clear(number)
        for file in self.records.glob("*.json"):
            file.unlink()

    def missing(self) -> list[int]:
        """Numbers of the pieces that have to be built yet."""
        return [number for number in range(len(self.pieces)) if self.done(number) is None]

    def join(self) -> Manifest:
        """Manifest, data spec and list of what was left out; several tasks may do so at once, with the same outcome.

        Raises:
            ConfigError: pieces are missing.
            SampleError: no row of any piece could be used.
        """
        found = [self.done(number) for number in range(len(self.pieces))]
        done = [one for one in found if one is not None]
        if len(done) < len(found):
            first = ", ".join(f"{number:05d}" for number, one in enumerate(found) if one is None)[:70]
            raise ConfigError(
                f"{self.manifest}: {len(found) - len(done)} of {len(found)} pieces are not built ({first}); run the "
                "build again, with --slice or without: finished pieces stay"
            )
        shards = tuple(shard for one in done for shard in one.shards)
        if not shards:
            counts = total(done)
            raise SampleError(
                f"{self.folder / self.name}: none of {counts.rows:,} rows could be used: {_worst(counts)}"
            )
        listed = [{"reason": reason, "which": which} for one in done for reason, which in one.left_out]
        if listed:
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in listed)
            write_whole(self.left_out_file, text)
        if not self.spec_file.is_file():
            write_whole(self.spec_file, self._spec_text())
        # Manifest.save writes all or nothing, but not beside another task that does the same.
        own = self.manifest.with_name(f"{self.manifest.name}.{uuid.uuid4().hex}")
        Manifest(own, shards).save()
        os.replace(own, self.manifest)
        return Manifest(self.manifest, shards)

    def _spec_text(self) -> str:
        return yaml.safe_dump(dict(self.spec), sort_keys=False, width=120, allow_unicode=True)


def total(done: list[Done]) -> Counts:
    """The counts of several pieces."""
    counts = Counts()
    for one in done:
        counts.add(one.counts)
    return counts


def write_whole(path: Path, text: str) -> None:
    """All of a file or nothing, also where other tasks write the same one."""
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def _worst(counts: Counts) -> str:
    ranked = sorted(counts.left_out.items(), key=lambda item: -item[1])
    return "; ".join(f"{number:,} x {reason} (first: {counts.first[reason]})" for reason, number in ranked[:3])
