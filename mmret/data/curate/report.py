"""What a curation did, for programs and for reading: the same numbers on every run of the same curation."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mmret.data.care.statistics import quantiles
from mmret.data.curate.curation import Curated, Step


def write_report(found: Curated) -> Path:
    """Write `report.json` and `report.md` beside the new manifest; gives the latter's path."""
    out = Path(found.curation.out)
    _write(out / "report.json", json.dumps(as_json(found), indent=1) + "\n")
    _write(out / "report.md", _markdown(found))
    return out / "report.md"


def as_json(found: Curated) -> dict[str, Any]:
    """Counts, settings, reasons, quantiles of each measure (`mmret.data.care.statistics.QUANTILES`)."""
    return {
        "name": found.curation.name,
        "source": found.curation.source,
        "seed": found.curation.seed,
        "samples": len(found.source.manifest),
        "kept": len(found.kept),
        "filters": [
            {
                "name": step.name,
                "config": step.config,
                "before": step.before,
                "after": step.after,
                "reasons": dict(step.reasons),
                "measure": step.unit,
                "quantiles": quantiles(step.values),
                **({"facts": step.facts} if step.facts else {}),
            }
            for step in found.steps
        ],
    }


def _markdown(found: Curated) -> str:
    total, kept = len(found.source.manifest), len(found.kept)
    lines = [
        f"# {found.curation.name}",
        "",
        f"{kept:,} of {total:,} samples of {found.curation.source} ({kept / total:.1%}). Every sample that went is in "
        "`dropped.parquet` with filter, measure and reason.",
        "",
        "| filter | before | went | after | why |",
        "|---|---:|---:|---:|---|",
    ]
    for step in found.steps:
        why = ", ".join(f"{reason} {count:,}" for reason, count in step.reasons.items())
        lines.append(f"| {step.name} | {step.before:,} | {step.before - step.after:,} | {step.after:,} | {why} |")
    lines += ["", "| filter | measure | least | 5 % | median | 95 % | most |", "|---|---|---:|---:|---:|---:|---:|"]
    lines += [f"| {step.name} | {step.unit} | {' | '.join(_shown(step))} |" for step in found.steps]
    return "\n".join(lines) + "\n"


def _shown(step: Step) -> list[str]:
    return [f"{value:,g}" for value in quantiles(step.values)] or [""] * 5


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
