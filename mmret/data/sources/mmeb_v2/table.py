"""A set's table as it lies on disk: its files, parquet or JSON, and their rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmret.data.sources.mmeb.prompt import spec_name
from mmret.data.sources.mmeb_v2.facts import SetFacts
from mmret.data.sources.parquet import ParquetSplit
from mmret.data.sources.row_file import BrokenRow, RowFiles
from mmret.errors import ConfigError, SampleError

_ALL = 10**12
_SUBFOLDERS = (".", "data", "json")


@dataclass(frozen=True)
class SetTable:
    """Files of a set's rows in order, each with the subset it belongs to."""

    facts: SetFacts
    files: tuple[tuple[str, Path], ...]

    @classmethod
    def find(cls, root: Path, facts: SetFacts) -> SetTable | None:
        """Its files below `root`; None: there are none.

        Raises:
            ConfigError: a file is missing or is no table, or it is not clear which files are the split's.
        """
        for folder in folders_of(root, facts):
            found = [(name, _files(folder, name, facts.split, True)) for name in facts.subsets]
            missing = [name for name, files in found if not files]
            if missing and len(missing) < len(found):
                raise ConfigError(f"mmeb_v2: {folder}: no table of {', '.join(missing)}; download it again")
            found = found or [("", _files(folder, facts.config, facts.split))]
            files = tuple((name, file) for name, group in found for file in group)
            if files:
                return cls(facts, files)
        single = root / f"{facts.file}.jsonl"
        return cls(facts, (("", single),)) if facts.file and single.is_file() else None

    def rows(self, limit: int | None) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Place (for messages), subset and values of each row.

        Raises:
            ConfigError: a column is missing.
            SampleError: a row is no JSON.
        """
        limit = min((one for one in (limit, self.facts.rows) if one is not None), default=_ALL)
        for subset, file in self.files:
            for place, row in _rows(file, self.facts):
                if limit == 0:
                    return
                limit -= 1
                yield place, subset, row


def folders_of(root: Path, facts: SetFacts) -> list[Path]:
    """Folders that are called as the set or its repository is."""
    repository = facts.hub.rpartition("/")[2]
    names = [spec_name(name) for name in (facts.name, repository, facts.file) if name]
    here = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    found = sorted(
        (path for path in here if spec_name(path.name) in names), key=lambda p: names.index(spec_name(p.name))
    )
    return found


def _files(folder: Path, config: str | None, split: str, exact: bool = False) -> list[Path]:
    """A split's files: parquet as the hub lays it out, or JSON whose name has the configuration's or split's in it.

    Args:
        exact: the file is called as the configuration, and is the only split's.
    """
    tables = [f"{folder.name}/{config}"] if config else []
    for table in tables if exact else [*tables, folder.name]:
        found = ParquetSplit.find(folder.parent, table, split)
        if found is not None:
            if found.missing_parts:
                raise ConfigError(f"mmeb_v2: {found.name} lacks part {found.missing_parts[0]}; download it again")
            return list(found.files)
    places = [folder / sub for sub in (*_SUBFOLDERS, *([config] if config else []))]
    for word in [one.lower() for one in (config, split if not exact else None) if one]:
        for place in places:
            files = sorted(path for path in place.glob("*.json*") if word in path.stem.lower())
            whole = [path for path in files if path.stem.lower() == word]
            files = whole if whole or exact else files
            if len(files) > 1:
                names = ", ".join(path.name for path in files)
                raise ConfigError(f"mmeb_v2: {place}: {names}: which is the table of {word}? Keep one")
            if files:
                return files
    return []


def _rows(file: Path, facts: SetFacts) -> Iterator[tuple[str, dict[str, Any]]]:
    if file.suffix != ".json":
        files = RowFiles([str(file)])
        files.require(facts.columns)
        for piece in files.pieces(_ALL):
            for _, place, row in files.rows(piece):
                if isinstance(row, BrokenRow):
                    raise SampleError(f"{place}: {row.text}; download it again")
                yield place, row
        return
    for number, row in enumerate(_json_rows(file)):
        missing = [name for name in facts.columns if not isinstance(row, dict) or name not in row]
        if missing:
            raise ConfigError(
                f"{file}: row {number + 1} has no {', '.join(missing)}; {facts.name} wants {facts.columns}"
            )
        yield f"{file.name} row {number + 1}", row


def _json_rows(file: Path) -> list[Any]:
    text = file.read_text(encoding="utf-8")
    try:
        found = json.loads(text)
    except ValueError:
        try:
            found = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError as error:
            raise ConfigError(
                f"{file}: neither JSON nor a line of JSON each row ({error}); download it again"
            ) from error
    return found if isinstance(found, list) else [found]
