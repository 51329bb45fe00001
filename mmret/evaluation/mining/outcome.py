"""What mining writes: negatives by sample, a data spec that names them, and a report of what was found and dropped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mmret.data.mined import write_mined
from mmret.data.respec import write_spec
from mmret.data.table import write_table
from mmret.errors import ConfigError
from mmret.evaluation.mining.mine import Mined
from mmret.evaluation.mining.rules import DROPPED

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
REASONS = {
    "positive_id": "a positive of the query, by id",
    "positive_content": "a positive's text and pictures under another id",
    "range": "outside --range",
    "min_score": "below --min-score",
    "max_score": "above --max-score",
    "margin": "less than --margin below the positive",
    "ratio": "more than --ratio of the positive",
    "surplus": "left over: --negatives were already taken",
}


def write_mining(mined: Mined, folder: str | Path, model: str) -> Path:
    """Write `negatives.arrow`, the spec, `mining.json` and, for a source without one, `documents.arrow`; one rank does.

    Args:
        model: how it was opened, for the record.

    Returns:
        The spec's path, `<folder>/<last part of the source's name>.yaml`: the same source, with more negatives.

    Raises:
        ConfigError: nothing is left to write.
    """
    folder, data = Path(folder), mined.data
    spec = data.source.spec
    if not any(mined.rows):
        raise ConfigError(
            f"{spec.file or spec.name}: no negatives are left of {mined.found:,} documents found ({_dropped(mined)}); "
            "loosen the rules, or search deeper (--k)"
        )
    changes = {"negatives": "negatives.arrow"}
    if data.table is None:
        write_table(data.rows(), folder / "documents.arrow")
        changes["documents"] = "documents.arrow"
    write_mined(_rows(mined), folder / "negatives.arrow")
    (folder / "mining.json").write_text(json.dumps({"model": model, **report(mined)}, indent=1) + "\n")
    return write_spec(spec, folder / f"{spec.name.rpartition('/')[2]}.yaml", **changes)


def report(mined: Mined) -> dict[str, Any]:
    """Counts, and the distribution of the gap between a negative's score and its positive's."""
    data, gaps = mined.data, mined.gaps
    kept = [len(own) for own in mined.rows]
    spread = torch.quantile(_thinned(gaps), torch.tensor(QUANTILES)).tolist() if len(gaps) else []
    return {
        "source": data.source.name,
        "rules": {name: value for name, value in vars(mined.rules).items() if value is not None},
        "samples": len(data.source),
        "broken": data.broken,
        "without_positives": len(data.names) - len(data.asked),
        "queries": len(data.asked),
        "documents": data.num_searched - len(data.unreadable),
        "broken_documents": len(data.unreadable),
        "found": mined.found,
        "dropped": {reason: mined.dropped[reason] for reason in DROPPED if mined.dropped[reason]},
        "negatives": sum(kept),
        "queries_with_all": sum(count == mined.rules.negatives for count in kept),
        "queries_without": sum(count == 0 for count in kept),
        "gap": {f"p{round(100 * q):02d}": value for q, value in zip(QUANTILES, spread)},
        "above_positive": float((gaps < 0).float().mean()) if len(gaps) else 0.0,
    }


def print_report(facts: dict[str, Any], console: Console) -> None:
    """The report as a table."""
    title = f"{facts['source']}: {facts['queries']:,} queries, {facts['documents']:,} documents"
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("documents", "count", "share"):
        table.add_column(heading, justify="left" if heading == "documents" else "right")
    lines = {"found": facts["found"]}
    lines |= {f"  {REASONS[reason]}": count for reason, count in facts["dropped"].items()}
    for name, count in {**lines, "kept as negatives": facts["negatives"]}.items():
        table.add_row(name, f"{count:,}", f"{count / max(facts['found'], 1):.1%}")
    console.print(table)
    gaps = ", ".join(f"{name} {value:.3f}" for name, value in facts["gap"].items())
    wanted = facts["rules"]["negatives"]
    for text in (
        f"queries with all {wanted} negatives: {facts['queries_with_all']:,}; with none: {facts['queries_without']:,}",
        f"positive's score minus negative's: {gaps}; negatives above their positive: {facts['above_positive']:.1%}",
        f"samples left out: {facts['broken']:,} broken, {facts['without_positives']:,} without positives; "
        f"documents whose picture does not decode: {facts['broken_documents']:,}",
    ):
        console.print(text, markup=False, soft_wrap=True)


def _rows(mined: Mined) -> Iterator[tuple[str, list[str], list[float]]]:
    """Of every sample that can be read; those without positives have none."""
    data = mined.data
    found = {asked.name: at for at, asked in enumerate(data.asked)}
    for name in data.names:
        at = found.get(name)
        rows = [] if at is None else mined.rows[at]
        yield name, [data.id(row) for row in rows], [] if at is None else mined.scores[at]


def _dropped(mined: Mined) -> str:
    return ", ".join(f"{mined.dropped[reason]:,} {REASONS[reason]}" for reason in DROPPED if mined.dropped[reason])


def _thinned(values: torch.Tensor) -> torch.Tensor:
    """Every so manieth of them, as `torch.quantile` takes at most 2^24."""
    return values[:: len(values) // 10_000_000 + 1]
