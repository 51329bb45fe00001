"""The passages of one split as a documents table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmret.data.sources.m2kr.checks import Tables
from mmret.data.sources.m2kr.facts import facts
from mmret.data.sources.m2kr.rows import PASSAGE_COLUMNS, passage_row, positive_ids
from mmret.data.sources.record import Counts, fingerprint, finish, finished
from mmret.data.sources.track import Track
from mmret.data.table import write_table


def build_passages(tables: Tables, folder: Path, limit: int | None, track: Track) -> tuple[Path, Counts, bool]:
    """Write `<split>_passages.arrow`; gives its path, what became of the rows, and whether it was there already."""
    path = folder / f"{tables.split}_passages.arrow"
    record = path.with_name(f"{tables.split}_passages.build.json")
    # Which passages a limited table holds depends on the rows.
    files = (*tables.passages.files, *(tables.data.files if limit else ()))
    made_from = fingerprint(files, {"limit": limit})
    counts = finished(record, made_from)
    if counts is not None and path.is_file():
        return path, counts, True
    counts = Counts()
    write_table(track(_rows(tables, limit, counts), f"{tables.name} passages", len(tables.passages)), path)
    finish(record, made_from, counts)
    return path, counts, False


def _rows(tables: Tables, limit: int | None, counts: Counts) -> Iterator[dict[str, Any]]:
    source = tables.passages
    extras = [name for name in facts().passage_extras if name in source.columns]
    twins, seen = _twins(source.column("passage_id")), set()
    wanted = None if limit is None else _answering(tables, limit)
    others = 0
    for row in source.rows([*PASSAGE_COLUMNS, *extras]):
        counts.rows += 1
        id = str(row["passage_id"])
        if id in twins and id in seen:
            counts.leave_out("its passage_id stands in an earlier row", id)
            continue
        if id in twins:
            seen.add(id)
        if not (row["passage_content"] or "").strip():
            counts.leave_out("passage_content is empty", id)
            continue
        if wanted is not None and limit is not None and id not in wanted:
            others += 1
            if others > limit:
                counts.leave_out("beyond the limit", id)
                continue
        counts.kept += 1
        yield passage_row(row, extras)


def _answering(tables: Tables, limit: int) -> set[str]:
    """Ids of the passages that answer the first `limit` questions."""
    rows = zip(range(limit), tables.data.rows(["pos_item_ids"]))
    return {id for _, row in rows for id in positive_ids(row)}


def _twins(ids: pa.ChunkedArray) -> set[str]:
    """Ids that occur more than once; memory holds only those as Python strings."""
    counted = ids.value_counts()
    return set(counted.filter(pa.array(counted.field("counts").to_numpy() > 1)).field("values").to_pylist())
