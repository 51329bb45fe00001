"""`make bench`: run all races, print a table, write runs/bench/results.json."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from tests.bench import grad_cache, loader, maxsim, relative_bias, resume, scaling, shards

RACES = {
    "maxsim": maxsim.run,
    "loader": loader.run,
    "shards": shards.run,
    "grad_cache": grad_cache.run,
    "resume": resume.run,
}


def main() -> None:
    """Run every race on one thread."""
    torch.set_num_threads(1)
    rows = [row for run in RACES.values() for row in run()]
    out = Path("runs/bench")
    out.mkdir(parents=True, exist_ok=True)
    about = {
        "date": date.today().isoformat(),
        "machine": platform.processor() or platform.machine(),
        "versions": {name: version(name) for name in ("torch", "transformers", "webdataset", "pillow")},
        "command": "make bench",
    }
    memory = relative_bias.run()
    scaled = scaling.run()
    results = {
        **about,
        "rows": [asdict(row) for row in rows],
        "memory": [asdict(row) for row in memory],
        "scaling": [asdict(row) for row in scaled],
    }
    (out / "results.json").write_text(json.dumps(results, indent=1))
    table = Table(title=f"one thread, CPU-seconds, median of 7 · torch {about['versions']['torch']}")
    for heading in ("race", "contestant", "CPU ms", "per CPU-second", "x ours", "peak MB"):
        table.add_column(heading, justify="left" if heading in ("race", "contestant") else "right")
    last = ""
    for row in rows:
        table.add_row(
            "" if row.race == last else row.race,
            row.contestant,
            f"{row.cpu_s * 1e3:.1f}",
            f"{row.per_second:,.1f} {row.unit}",
            f"{row.ratio:.2f}",
            "" if row.peak_mb is None else f"{row.peak_mb:.1f}",
        )
        last = row.race
    console = Console(width=140)
    console.print(table)
    console.print(relative_bias.table(memory))
    console.print(scaling.table(scaled))


if __name__ == "__main__":
    main()
