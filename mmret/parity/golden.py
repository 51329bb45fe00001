"""Find golden sets below a folder and hand each to the reader that knows its kind."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmret.parity import preflmr, vlm2vec, vlmo
from mmret.parity.report import Report

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reader:
    """One kind of golden set."""

    name: str
    recognises: Callable[[Path], bool]
    """Is this folder such a set? Decided by what lies in it, not by its name."""
    compare: Callable[[Path, Report], None]


READERS: list[Reader] = [
    Reader("preflmr", preflmr.recognises, preflmr.compare),
    Reader("vlm2vec", vlm2vec.recognises, vlm2vec.compare),
    Reader("vlmo", vlmo.recognises, vlmo.compare),
]
"""In order of asking; a new architecture adds its own."""


def compare_folder(root: str | Path, report: Report) -> Report:
    """Compare every set in `root` and below. A set that no reader knows is a remark; nothing compared is a failure."""
    root = Path(root)
    if not root.is_dir():
        report.fail(str(root), "no such folder")
        return report
    claimed: set[Path] = set()
    folders = [root, *sorted(path for path in root.rglob("*") if path.is_dir())]
    for folder in folders:
        if claimed & set(folder.parents):
            continue  # part of a set
        reader = next((reader for reader in READERS if reader.recognises(folder)), None)
        name = str(folder.relative_to(root)) if folder != root else folder.name
        if reader is not None:
            claimed.add(folder)
            report.prefix = f"{name}: "
            try:
                reader.compare(folder, report)
            except Exception as error:  # one broken set must not hide the others' results
                logger.debug("golden set %s", folder, exc_info=True)
                report.fail("stopped", f"{type(error).__name__}: {error}")
        elif (folder / "golden.json").is_file() or any(folder.glob("*.safetensors")):
            claimed.add(folder)
            report.prefix = f"{name}: "
            report.remark("no reader yet for this kind of set")
    report.prefix = ""
    if not report.compared:
        report.fail(str(root), "nothing was compared: no golden set here that a reader knows")
    return report
