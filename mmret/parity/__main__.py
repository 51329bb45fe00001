"""`python -m mmret.parity`: compare with every golden set in the folder that MMRET_GOLDEN names (`make parity`)."""

from __future__ import annotations

import os
import sys

from rich.console import Console

from mmret.parity import Report, compare_folder


def main() -> int:
    """Print a line per comparison; 0 if all hold."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    root = os.environ.get("MMRET_GOLDEN")
    if not root:
        console.print("MMRET_GOLDEN is not set; name the folder with the golden tensors: make parity GOLDEN=folder")
        return 2
    report = compare_folder(root, Report(console.print))
    failed = report.failures
    console.print(f"{report.compared} comparisons, {len(failed)} failures" + (":" if failed else ""))
    for failure in failed:
        console.print(str(failure))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
