"""A folder of pictures with captions: `name.jpg` beside `name.txt`, or beside `name.json`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from mmret.data.layout import PICTURES, captions
from mmret.data.shards import Sample
from mmret.data.sources.picture import Lost, PictureReader
from mmret.data.sources.pieces import PIECE_ROWS, build_pieces, even_pieces, plan_pieces
from mmret.data.sources.plan import Piece
from mmret.data.sources.read_ahead import read_ahead
from mmret.data.sources.record import Built, Counts, fingerprint
from mmret.data.sources.row_options import Problem, check_counts
from mmret.data.sources.slice import Slice
from mmret.data.sources.track import Track, untracked
from mmret.errors import ConfigError, SampleError

_OURS = frozenset(("query", "positives", "negatives", "caption", "captions"))


@dataclass
class PairsConfig:
    """The options of `mmret data build pairs`."""

    images: str = MISSING
    """Folder, with subfolders, of pictures and their captions: name.txt or name.json ("caption" or "captions")."""
    out: str = MISSING
    """Folder for the shards."""
    name: str = "train"
    """Of the manifest, the data spec and the shards."""
    lines: bool = False
    """Each line of a .txt is a caption of its own."""
    limit: int | None = None
    """Only the first so many pictures, in the order of their paths."""
    max_px: int | None = None
    """Pictures whose shorter side is longer than this are scaled down to it, format kept: twice the training size."""
    skip_missing_images: bool = False
    """Leave out broken pictures instead of stopping."""
    piece_rows: int = PIECE_ROWS
    """Pictures of a piece: what a restart repeats, and what slices share out."""
    workers: int = 16
    """Threads that read pictures."""
    slice: str | None = None
    """Build only this share of the pieces: 3/16, or slurm (by the task's number in its job array)."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w-]+", self.name):
            raise ConfigError(f"--name {self.name!r}: want letters, digits, '_' and '-'; it names files")
        check_counts(self, "limit", "max_px", "piece_rows", "workers")


def build_pairs(config: PairsConfig, track: Track = untracked) -> list[Built]:
    """Write `<out>/<name>.manifest.json` with its shards and `<out>/<name>.yaml`, the data spec.

    Raises:
        ConfigError: no such folder, or no picture in it.
        SampleError: no picture has a caption, or one is broken.
    """
    root, folder, slice = Path(config.images), Path(config.out), Slice.parse(config.slice)
    files, listing = _find(root)
    files = files[: config.limit]
    pictures = PictureReader(root, config.max_px, timeout_s=1, retries=0)

    def read(file: str) -> Sample | Problem:
        return _sample(root, file, pictures, config.lines)

    def samples(piece: Piece, counts: Counts) -> Iterator[Sample]:
        rows = files[piece.row : piece.row + piece.rows]
        for number, found in enumerate(read_ahead(read, rows, config.workers), piece.first):
            counts.rows += 1
            if isinstance(found, Sample):
                counts.kept += 1
                yield Sample(f"{number:09d}", found.json, found.members)
            elif found.stop and not config.skip_missing_images:
                raise SampleError(f"{found.text}; to leave such out: --skip-missing-images")
            else:
                counts.leave_out(found.reason, found.text)

    options = {name: getattr(config, name) for name in ("lines", "limit", "max_px", "skip_missing_images")}
    spec = {
        "name": f"{folder.resolve().name}/{config.name}",
        "description": f"pictures of {root.resolve().name} and their captions",
        "shards": f"{config.name}.manifest.json",
        "required": ["query.images", "positives.text"],
    }
    made_from = fingerprint((), {**options, "piece_rows": config.piece_rows, "listing": listing})
    plan = plan_pieces(folder, config.name, made_from, spec, lambda: even_pieces(len(files), config.piece_rows), slice)
    return [build_pieces(plan, samples, slice, track)]


def _find(root: Path) -> tuple[list[str], str]:
    """Pictures below the folder, sorted, and a digest of all files there with their sizes."""
    if not root.is_dir():
        raise ConfigError(f"{root}: no such folder of pictures (--images)")
    digest, files = blake2b(digest_size=12), []
    inside = {root.as_posix(): {os.path.realpath(root)}}
    for folder, below, names in os.walk(root, followlinks=True):
        # A link to a folder around it would show each picture dozens of times.
        real = {name: os.path.realpath(os.path.join(folder, name)) for name in below}
        around = inside.pop(Path(folder).as_posix())
        below[:] = sorted(name for name in below if real[name] not in around)
        inside |= {Path(folder, name).as_posix(): {*around, real[name]} for name in below}
        for name in sorted(names):
            path = os.path.join(folder, name)
            file = Path(path).relative_to(root).as_posix()
            size = os.path.getsize(path) if os.path.exists(path) else -1  # a link to what is not there
            digest.update(f"{file}\0{size}\0".encode())
            if name.lower().endswith(tuple(f".{suffix}" for suffix in PICTURES)):
                files.append(file)
    if not files:
        raise ConfigError(f"{root}: no pictures in it; want name.jpg beside name.txt ({', '.join(PICTURES)})")
    return sorted(files), digest.hexdigest()


def _sample(root: Path, file: str, pictures: PictureReader, lines: bool) -> Sample | Problem:
    """The sample of a picture; its key is given later."""
    path = root / file
    try:
        text = _text(path.with_suffix(".txt"))
        facts = json.loads(_text(path.with_suffix(".json")) or "{}")
    except ValueError as error:
        return Problem("caption cannot be read", f"{path}: {error}")
    facts = facts if isinstance(facts, dict) else {}
    found = captions(facts, text)
    if lines and not any(name in facts for name in ("caption", "captions")):
        found = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if not found:
        return Problem("no caption", f"{path}: no text in {path.stem}.txt, no caption in {path.stem}.json")
    picture = pictures(file)
    if isinstance(picture, Lost):
        return Problem.of(picture)
    member = f"q.0.{picture.suffix}"
    row: dict[str, Any] = {"query": {"images": [member]}, "positives": [{"text": one} for one in found], "file": file}
    return Sample("", {name: value for name, value in facts.items() if name not in _OURS} | row, {member: picture.data})


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8-sig") if file.is_file() else ""
