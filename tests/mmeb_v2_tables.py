"""Small MMEB-V2 tables in each published layout, folders of frames, and pages."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.builders import COLOURS


def page(colour: str, size: int = 8) -> bytes:
    """A page of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), COLOURS[colour]).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(root: Path, table: str, rows: list[dict[str, Any]]) -> None:
    """`<root>/<table>-00000-of-00001.parquet`; `table` ends in the split."""
    path = root / f"{table}-00000-of-00001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_pages(
    root: Path,
    folder: str,
    pages: dict[Any, str],
    queries: dict[Any, str],
    judged: list[tuple[Any, Any, float]],
    split: str = "test",
) -> Path:
    """Corpus, queries and judgements of a document set as BEIR lays them out; gives `root`."""
    corpus = [{"corpus-id": id, "image": {"bytes": page(colour), "path": None}} for id, colour in pages.items()]
    write_parquet(root / folder, f"corpus/{split}", corpus)
    write_parquet(root / folder, f"queries/{split}", [{"query-id": id, "query": text} for id, text in queries.items()])
    judgements = [{"query-id": query, "corpus-id": id, "score": score} for query, id, score in judged]
    write_parquet(root / folder, f"qrels/{split}", judgements)
    return root


def write_json(root: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    """`<root>/<name>`, a row each line, or one list where the name ends in .json; gives `root`."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(json.dumps(rows) if path.suffix == ".json" else lines, encoding="utf-8")
    return root


def write_frames(root: Path, video: str, *colours: str, size: int = 8) -> Path:
    """`frame_1.png`, `frame_2.png`, ... of a video; gives `root`."""
    folder = root / video
    folder.mkdir(parents=True, exist_ok=True)
    for number, colour in enumerate(colours, 1):
        (folder / f"frame_{number}.png").write_bytes(page(colour, size))
    return root
