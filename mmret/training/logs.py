"""One metrics.csv per stage, from the logs of every start of it."""

from __future__ import annotations

import csv
from pathlib import Path


def merge_logs(folder: Path) -> Path:
    """Join `logs/version_*/metrics.csv` by step into `metrics.csv`; a step logged twice counts as the later start's."""
    rows: dict[int, dict[str, str]] = {}
    columns: dict[str, None] = {"step": None}
    versions = sorted(folder.glob("logs/version_*/metrics.csv"), key=lambda p: int(p.parent.name.split("_")[1]))
    for path in versions:
        with path.open(newline="") as file:
            logged = [row for row in csv.DictReader(file) if (row.get("step") or "").isdigit()]
        first = min((int(row["step"]) for row in logged), default=0)
        rows = {step: row for step, row in rows.items() if step < first}
        for row in logged:
            filled = {key: value for key, value in row.items() if key and value not in ("", None)}
            columns.update(dict.fromkeys(filled))
            rows.setdefault(int(row["step"]), {}).update(filled)
    target = folder / "metrics.csv"
    with target.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(rows[step] for step in sorted(rows))
    return target
