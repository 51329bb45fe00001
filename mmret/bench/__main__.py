"""`python -m mmret.bench cost FOLDER PRIMARY | flops FOLDER`: what `mmret bench` does in a process of its own."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path


def main(action: str, folder: str, primary: str = "") -> None:
    """Measure a finished run's cost, or the FLOPs of a step of each stage, and write it into its folder."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    from mmret.bench.cost import write_cost
    from mmret.bench.flops import flops_of_steps
    from mmret.bench.per_query import write_per_query

    if action == "cost":
        write_per_query(Path(folder))
        write_cost(Path(folder), primary)
    else:
        (Path(folder) / "flops.json").write_text(json.dumps({"per_step": flops_of_steps(Path(folder))}))


if __name__ == "__main__":
    main(*sys.argv[1:])
