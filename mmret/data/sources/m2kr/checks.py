"""Before anything is built: are these the published tables, all of them, and none of the copies known to be wrong?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from mmret.data.sources.m2kr.facts import SPLITS, DatasetFacts, Stale, as_printed, choose_datasets, facts
from mmret.data.sources.m2kr.rows import instruction
from mmret.data.sources.parquet import ParquetSplit

_LOOKED_AT = 200
"""Rows of a split that are read for a first look."""


@dataclass(frozen=True)
class Finding:
    """One thing to say about the tables."""

    level: Literal["error", "warning"]
    text: str


@dataclass(frozen=True)
class Tables:
    """The parquet files of one split of one dataset."""

    dataset: DatasetFacts
    split: str
    data: ParquetSplit
    passages: ParquetSplit

    @property
    def name(self) -> str:
        """ "evqa/test", as below --out."""
        return f"{self.dataset.folder}/{self.split}"


def open_tables(root: Path, datasets: list[str], splits: list[str]) -> tuple[list[Tables], list[Finding]]:
    """All tables that are there of those asked for, and what is to be said about them.

    A dataset named by the user must be there; of a list left empty, what is missing is passed over.
    """
    tables, findings = [], []
    for dataset in choose_datasets(datasets):
        found = 0
        for split in splits or SPLITS:
            data = ParquetSplit.find(root, f"{dataset.name}_data", split)
            if data is None:
                continue
            found += 1
            passages = ParquetSplit.find(root, f"{dataset.name}_passages", f"{split}_passages")
            if passages is None:
                findings.append(Finding("error", _no_passages(dataset, split, root)))
                continue
            table = Tables(dataset, split, data, passages)
            problems = [*_columns(table), *_parts(table)]
            findings += problems or [*_counts(table), *_stale(table)]
            tables.append(table)
        if not found and datasets:
            wanted = [split for split in splits or SPLITS if split in dataset.rows]
            if not wanted:
                text = f"{dataset.name} has no split {', '.join(splits)}; published: {', '.join(dataset.rows)}"
            else:
                text = (
                    f"{dataset.name}: no {root}/{dataset.name}_data/{wanted[0]}-*.parquet; download {dataset.name}_data"
                )
            findings.append(Finding("error", text))
    if not tables and not findings:
        findings.append(Finding("error", f"{root}: no M2KR table here (looked for <NAME>_data/<split>-*.parquet)"))
    return tables, findings


def _no_passages(dataset: DatasetFacts, split: str, root: Path) -> str:
    return (
        f"{dataset.name}_data/{split} has no passages: no {root}/{dataset.name}_passages/{split}_passages-*.parquet; "
        f"download {dataset.name}_passages"
    )


def _columns(table: Tables) -> list[Finding]:
    findings = []
    for kind, part in (("data", table.data), ("passages", table.passages)):
        missing = [name for name in facts().table_columns[kind] if name not in part.columns]
        if missing:
            has = ", ".join(part.columns)
            findings.append(Finding("error", f"{part.name} lacks the column {missing[0]}; has: {has}"))
    return findings


def _parts(table: Tables) -> list[Finding]:
    return [
        Finding(
            "error",
            f"{part.name}: files number {', '.join(map(str, part.missing_parts[:5]))} are missing beside "
            f"{part.files[0].name}; the download was cut off, finish it",
        )
        for part in (table.data, table.passages)
        if part.missing_parts
    ]


def _counts(table: Tables) -> list[Finding]:
    findings = []
    for part, published in ((table.data, table.dataset.rows), (table.passages, table.dataset.passages)):
        if table.split not in published:
            findings.append(Finding("warning", f"{part.name}: {len(part):,} rows of a split that was not published"))
            continue
        card, docs = published[table.split]
        if len(part) != int(card) and not as_printed(len(part), docs):
            findings.append(
                Finding(
                    "warning",
                    f"{part.name}: {len(part):,} rows, published: {int(card):,} (dataset card), {docs} (docs); "
                    "results will not be comparable",
                )
            )
    return findings


def _stale(table: Tables) -> list[Finding]:
    findings = []
    for stale in table.dataset.stale:
        sign = _sign(table, stale)
        if sign:
            findings.append(
                Finding("error", f"{table.data.name}: {sign}: {stale.what}. {stale.effect}. To mend it, {stale.remedy}")
            )
    return findings


def _sign(table: Tables, stale: Stale) -> str | None:
    """What gives the copy away; None: nothing."""
    if len(table.data) in stale.rows.get(table.split, ()):
        return f"{len(table.data):,} rows"
    size = table.data.files[0].stat().st_size
    if size in stale.bytes.get(table.split, ()):
        return f"{table.data.files[0].name} has {size:,} bytes"
    if stale.instruction_in_question:
        rows = list(islice(table.data.rows(["question", "instruction"]), _LOOKED_AT))
        doubled = sum(_doubled(row.get("question"), row.get("instruction")) for row in rows)
        if doubled > len(rows) // 2:
            return f"{doubled} of the first {len(rows)} questions begin with an instruction"
    return None


def _doubled(question: str | None, given: str | None) -> bool:
    """Does the question begin with the row's instruction, or with anything like one ("...question: what ...")?"""
    if not question:
        return False
    text = instruction(given)
    if text and question.strip().lower().startswith(text.rstrip(": ").lower()):
        return True
    head, colon, rest = question.partition(":")
    return bool(colon and rest.strip() and len(head.split()) >= 6)
