"""Tars that others wrote, as they are: indexes beside them, a manifest, and a data spec that a recipe can name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from mmret.data.care.collection import Collection
from mmret.data.index import ShardIndex, index_path, index_shard
from mmret.data.remote import is_remote
from mmret.data.shards import Manifest, ShardEntry, file_sha256
from mmret.data.sources.read_ahead import read_ahead
from mmret.data.sources.track import Track, untracked
from mmret.errors import ConfigError, SampleError

SUFFIXES = (".tar", ".tar.gz", ".tgz")


@dataclass(frozen=True)
class Indexed:
    """What was made of some tars."""

    manifest: Manifest
    spec: Path
    layout: str
    left_out: tuple[str, ...]
    """Why a tar is not in the manifest: it is broken, or empty."""


def index_tars(
    paths: Sequence[str | Path],
    name: str | None = None,
    skip_broken: bool = False,
    workers: int = 4,
    track: Track = untracked,
) -> Indexed:
    """Index tars where they lie; they are only read. A tar that has a current index is not parsed again.

    Args:
        paths: a folder, in which all tars are taken, or tars.
        name: of the collection; written are `<name>.manifest.json` and `<name>.yaml` in the folder, or in the one that
            holds all the tars. None: the folder's name.
        skip_broken: leave tars out that cannot be read, rather than refuse all.
        workers: tars read at once.

    Raises:
        ConfigError: there is no tar, or the name cannot be one of a file.
        SampleError: tars are truncated or have duplicate keys; all are named.
    """
    folder, tars = _tars(paths)
    name = name or folder.resolve().name
    if not re.fullmatch(r"[\w.-]+", name):
        raise ConfigError(f"--name {name!r}: want letters, digits, '.', '_' and '-'; it names files")
    path = folder / f"{name}.manifest.json"
    known = _checksums(path)
    entries: list[ShardEntry] = []
    broken: list[str] = []
    left_out: list[str] = []
    for found in track(read_ahead(lambda tar: _index(tar, folder, known), tars, workers), f"index {name}", len(tars)):
        if isinstance(found, SampleError):
            broken.append(str(found))
        elif not found.samples:
            left_out.append(f"{found.name}: no samples in it")
        else:
            entries.append(found)
    if broken and not (skip_broken and entries):
        more = f"\n  ... and {len(broken) - 10} more" if len(broken) > 10 else ""
        raise SampleError(
            f"{len(broken)} of {len(tars)} tars cannot be indexed:\n  "
            + "\n  ".join(broken[:10])
            + f"{more}\nRepair them, or leave them out with --skip-broken"
        )
    if not entries:
        raise SampleError(f"{folder}: no tar has a sample")
    manifest = Manifest(path, tuple(entries))
    manifest.save()
    layout = Collection.find(manifest.path).spec.layout
    return Indexed(manifest, _write_spec(manifest, name, layout), layout, (*broken, *left_out))


def _tars(paths: Sequence[str | Path]) -> tuple[Path, list[Path]]:
    """The folder of the manifest, and all tars in order."""
    for path in paths:
        if is_remote(path):
            raise ConfigError(
                f"{path} lies elsewhere, where no index can be written; run this where the tars are on disk (or fetch "
                "them), then upload manifest and .index.arrow files beside them and name the manifest's address as "
                "`shards` in a data spec"
            )
    given = [Path(path) for path in paths]
    for path in given:
        if not path.exists():
            raise ConfigError(f"{path} does not exist; name a folder of tars, or tars")
        if path.is_file() and not path.name.endswith(SUFFIXES):
            raise ConfigError(f"{path} is no tar; want {', '.join(SUFFIXES)}")
    if len(given) == 1 and given[0].is_dir():
        folder = given[0]
    else:
        parents = {path.resolve() if path.is_dir() else path.resolve().parent for path in given}
        folder = next(
            one for one in (min(parents), *min(parents).parents) if all(p.is_relative_to(one) for p in parents)
        )
        given = [path.resolve() for path in given]
    every = (tar for path in given for tar in (sorted(path.rglob("*")) if path.is_dir() else [path]))
    tars = list(dict.fromkeys(tar for tar in every if tar.is_file() and tar.name.endswith(SUFFIXES)))
    if not tars:
        raise ConfigError(f"{', '.join(map(str, paths))}: no tar there; want {', '.join(SUFFIXES)}")
    return folder, tars


def _index(tar: Path, folder: Path, known: Mapping[str, str]) -> ShardEntry | SampleError:
    """The tar's entry; `known`: name -> checksum of each tar when it was indexed before."""
    name, checksum = tar.relative_to(folder).as_posix(), file_sha256(tar)
    try:
        path = index_path(tar)
        # Dates are kept by many a copy, and tars are filled up to round sizes: neither tells one from another.
        if known.get(name, checksum) != checksum or not _is_current(path, tar):
            index_shard(tar)
        samples = len(ShardIndex(path))
    except SampleError as error:
        return error
    return ShardEntry(name, samples, tar.stat().st_size, checksum)


def _checksums(manifest: Path) -> dict[str, str]:
    """What an earlier run knew of the tars; of a manifest that is broken nothing, it is written anew."""
    try:
        listed = Manifest.load(manifest).shards if manifest.is_file() else ()
    except ConfigError:
        return {}
    return {entry.name: entry.sha256 for entry in listed if entry.sha256}


def _is_current(path: Path, tar: Path) -> bool:
    try:
        fresh = path.stat().st_mtime_ns >= tar.stat().st_mtime_ns
        return fresh and ShardIndex(path).shard_bytes == tar.stat().st_size
    except (OSError, SampleError):
        return False


def _write_spec(manifest: Manifest, name: str, layout: str) -> Path:
    """The data spec; one that is there keeps what somebody wrote into it."""
    path = manifest.path.with_name(f"{name}.yaml")
    if not path.is_file():
        about = f"Tars indexed where they lay: {len(manifest):,} samples in {len(manifest.shards)} shards"
        spec = {"name": name, "description": about, "shards": manifest.path.name, "layout": layout}
        path.write_text(yaml.safe_dump(spec, sort_keys=False, width=120), encoding="utf-8")
    return path
