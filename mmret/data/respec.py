"""A data spec made of another one: the same files, named from another folder."""

from __future__ import annotations

import os
from dataclasses import asdict, fields
from pathlib import Path

import yaml

from mmret.data.remote.address import is_remote
from mmret.data.spec import DataSpec

_FILES = ("shards", "documents", "images", "classes", "negatives", "recaptions")


def write_spec(old: DataSpec, path: Path, **changes: str) -> Path:
    """Write `old` with some fields changed, all of the file or nothing; gives `path`.

    Args:
        changes: fields and their values; files are named as seen from the new one's folder.
    """
    home = Path(old.file).parent
    moved = {name: seen_from(path.parent, home, value) for name in _FILES if (value := getattr(old, name))}
    tree = asdict(old) | moved | changes
    defaults = asdict(DataSpec(name="", shards=""))
    named = {field.name: tree[field.name] for field in fields(DataSpec) if field.name != "file"}
    shown = {name: value for name, value in named.items() if name in ("name", "shards") or value != defaults[name]}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")
    os.replace(part, path)
    return path


def seen_from(folder: Path, home: Path, name: str) -> str:
    """A file of `home` as `folder` names it; what lies elsewhere keeps its address."""
    return name if is_remote(name) else os.path.relpath((home / name).resolve(), folder.resolve())
