"""Small MMEB tables in the published schema, training and evaluation, and pictures for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.builders import COLOURS

TEXT, TEXTS = pa.string(), pa.list_(pa.string())
TRAIN = {name: TEXT for name in ("qry", "qry_image_path", "pos_text", "pos_image_path", "neg_text", "neg_image_path")}
TEST = {"qry_inst": TEXT, "qry_text": TEXT, "qry_img_path": TEXT, "tgt_inst": TEXT, "tgt_text": TEXTS}
TEST["tgt_img_path"] = TEXTS
VERSION_1 = {name: kind for name, kind in TEST.items() if not name.endswith("_inst")}


def write(root: Path, folder: str, split: str, rows: list[dict[str, Any]], schema: dict[str, pa.DataType]) -> Path:
    """One table as the hub lays it out; gives `root`."""
    path = root / folder / f"{split}-00000-of-00001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(schema)), path)
    return root


def train_row(qry: str, image: str, text: str = "", positive: str = "", **negative: str) -> dict[str, Any]:
    """A training row; absent sides are empty strings, as published."""
    empty = {"neg_text": "", "neg_image_path": ""}
    return {"qry": qry, "qry_image_path": image, "pos_text": text, "pos_image_path": positive, **empty, **negative}


def ranking_row(
    inst: str, text: str, image: str, texts: list[str], images: list[str] | None = None, wanted: str = ""
) -> dict[str, Any]:
    """An evaluation row; the first candidate is right."""
    row = {"qry_inst": inst, "qry_text": text, "qry_img_path": image, "tgt_inst": wanted}
    return row | {"tgt_text": texts, "tgt_img_path": [""] * len(texts) if images is None else images}


def write_pictures(folder: Path) -> Path:
    """`<colour>.png` for each colour; gives `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rgb in COLOURS.items():
        Image.new("RGB", (8, 8), rgb).save(folder / f"{name}.png")
    return folder
