"""What a job runs, put aside: the code as it is now and the resolved recipe, so that each start runs the same."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import mmret
from mmret.recipe import Recipe, resolve_to_yaml

_PACKAGES = ("torch", "lightning", "transformers")
_NOT_COPIED = ("__pycache__", "*.pyc")


@dataclass(frozen=True)
class Frozen:
    """A folder that a job is run from."""

    folder: Path
    commit: str
    """Of the code, " + changes" behind it where files were changed since; empty outside of a checkout."""


def freeze(parent: Path, recipes: Mapping[str, Recipe], command: list[str]) -> Frozen:
    """Copy code and recipes into a new folder `parent/DATE-TIME`.

    The environment (Python, torch, ...) is named, not copied. Of data specs, those are copied that mmret ships; data
    are not.

    Args:
        recipes: file name -> recipe.
        command: the arguments of mmret, for the record.
    """
    folder = _new(parent.absolute())
    package = Path(mmret.__file__).resolve().parent
    shutil.copytree(package, folder / "code" / "mmret", ignore=shutil.ignore_patterns(*_NOT_COPIED))
    shipped = package.parent / "data_specs"  # in a checkout; an installed package holds its own
    if shipped.is_dir() and not (package / "_shipped").is_dir():
        shutil.copytree(shipped, folder / "code" / "data_specs")
    for name, recipe in recipes.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(resolve_to_yaml(recipe))
    commit = commit_of(package)
    record = {
        "command": ["mmret", *command],
        "submitted": datetime.now().astimezone().isoformat(timespec="seconds"),
        "commit": commit,
        "folder": str(Path.cwd()),
        "python": f"{sys.executable} ({platform.python_version()})",
        "packages": {name: version(name) for name in _PACKAGES},
    }
    (folder / "submitted.json").write_text(json.dumps(record, indent=1))
    return Frozen(folder, commit)


def commit_of(package: Path) -> str:
    """The commit that a package's folder stands at; empty where git knows nothing of it."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(package), *arguments], capture_output=True, text=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    tracked = git("ls-files", "__init__.py")  # else it lies, ignored, in somebody else's checkout
    commit = git("rev-parse", "--short=12", "HEAD") if tracked else None
    if commit is None:
        return ""
    return f"{commit} + changes" if git("status", "--porcelain", "--", ".") else commit


def _new(parent: Path) -> Path:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    for number in range(1000):
        folder = parent / (f"{stamp}-{number}" if number else stamp)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(parent / stamp)
