"""Small M2KR tables in the published schema (columns and types of the dataset card), and pictures for them."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

TEXT, TEXTS, NULL = pa.string(), pa.list_(pa.string()), pa.null()
_QUERY = {"pos_item_ids": TEXTS, "pos_item_contents": TEXTS, "question_id": TEXT, "instruction": TEXT, "question": TEXT}
_IMAGE = {"img_id": TEXT, "img_path": TEXT, "image_id": TEXT}
_OBJECTS = pa.list_(pa.struct({"class": TEXT, "rect": pa.list_(pa.float64())}))

DATA_SCHEMAS = {
    "WIT": {"original_data_id": TEXTS, **_QUERY, **_IMAGE},
    "IGLUE": {**_QUERY, **_IMAGE},
    "KVQA": {**_QUERY, **_IMAGE},
    "CC": {"original_data_id": TEXTS, **_QUERY, **_IMAGE, "question": NULL},
    "MSMARCO": {"original_data_id": TEXTS, **_QUERY, "img_id": NULL, "img_path": NULL, "image_id": NULL},
    "OVEN": {**_QUERY, **_IMAGE, "wiki_entity": TEXT, "wiki_entity_id": TEXT},
    "LLaVA": {**_QUERY, **_IMAGE, "llava_split": TEXT},
    "OKVQA": {
        **_QUERY,
        "img_path": TEXT,
        "answers": TEXTS,
        "gold_answer": TEXT,
        "img_caption": pa.struct({"caption": TEXT, "conf": pa.float64()}),
        "objects": _OBJECTS,
        "related_item_ids": TEXTS,
    },
    "Infoseek": {
        **_QUERY,
        "image_id": TEXT,
        "img_path": TEXT,
        "answers": TEXTS,
        "answer_eval": TEXTS,
        "gold_answer": TEXT,
        "question_type": TEXT,
        "data_split": TEXT,
        "entity_id": TEXT,
        "entity_text": TEXT,
        "img_caption": TEXT,
        "objects": _OBJECTS,
        "related_item_ids": TEXTS,
    },
    "EVQA": {**_QUERY, **_IMAGE, "answers": TEXTS, "gold_answer": TEXT, "question_type": TEXT},
}
_PASSAGE = {"passage_id": TEXT, "passage_content": TEXT}
PASSAGE_SCHEMAS = {name: _PASSAGE | {"language": TEXT} for name in DATA_SCHEMAS} | {
    "OKVQA": _PASSAGE | {"title": TEXT},
    "Infoseek": _PASSAGE | {"title": TEXT},
}
SPLITS = {
    "WIT": ("train", "valid", "test"),
    "IGLUE": ("test",),
    "KVQA": ("train", "valid", "test"),
    "CC": ("train",),
    "MSMARCO": ("train", "valid", "test"),
    "OVEN": ("train", "valid", "test"),
    "LLaVA": ("train", "test"),
    "OKVQA": ("train", "valid", "test"),
    "Infoseek": ("train", "test"),
    "EVQA": ("train", "valid", "test"),
}
IMAGE_PLACES = {
    "WIT": ("WIT/{}.jpg", "{}.jpg"),
    "IGLUE": ("IGLUE/{}.jpg", "{}.jpg"),
    "KVQA": ("KVQA/KVQAimgs/{}.jpg", "{}.jpg"),
    "CC": ("CC3M/GCC_train_{}.jpg", "GCC_train_{}.jpg"),
    "OVEN": ("OVEN/03/oven_03{}.jpg", "03/oven_03{}.jpg"),
    "LLaVA": ("LLAVA/train2014/COCO_train2014_{}.jpg", "train2014/COCO_train2014_{}.jpg"),
    "OKVQA": ("OKVQA/val2014/COCO_val2014_{}.jpg", "val2014/COCO_val2014_{}.jpg"),
    # What the row says leaves out the folder 03/ in which the picture lies, among OVEN's.
    "Infoseek": ("OVEN/03/oven_03{}.jpg", "oven_03{}.jpg"),
    "EVQA": ("EVQA/inat/train/{}.jpg", "inat/train/{}.jpg"),
}
"""Dataset -> (where a picture lies, what img_path says); the number goes in."""


def picture(number: int, size: tuple[int, int] = (40, 30)) -> bytes:
    """A JPEG that differs by number."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (number * 37 % 256, number * 91 % 256, 120)).save(buffer, "JPEG")
    return buffer.getvalue()


def data_row(name: str, number: int) -> dict[str, object]:
    """Row `number` of a data table; its passage is `<name>_<number>`."""
    path = IMAGE_PLACES[name][1].format(f"{number:04d}") if name in IMAGE_PLACES else None
    full = {
        "question_id": f"{name}_q{number}",
        "question": "" if name in ("WIT", "IGLUE") else f"What is thing {number}?",
        "instruction": "Find the document about this image",
        "pos_item_ids": [f"{name}_{number}"],
        "pos_item_contents": [f"Thing {number} is a {name} thing."],
        "img_id": path,
        "img_path": path,
        "image_id": path,
        "answers": [f"Thing {number} ", "a thing"],
        "answer_eval": [f"thing {number}"],
        "gold_answer": f"thing {number}",
        "question_type": "automatic",
        "original_data_id": [str(number)],
        "wiki_entity": f"Entity {number}",
        "wiki_entity_id": f"Q{number}",
        "llava_split": "detail",
        "data_split": "val",
        "entity_id": f"Q{number}",
        "entity_text": f"Entity {number}",
        "img_caption": {"caption": "a thing", "conf": 0.5} if name == "OKVQA" else "a thing",
        "objects": [{"class": "thing", "rect": [0.0, 1.0]}],
        "related_item_ids": [f"{name}_{number}"],
    }
    if name == "CC":
        full["question"] = None
    if name == "MSMARCO":
        full.update(img_id=None, img_path=None, image_id=None)
    return {column: full[column] for column in DATA_SCHEMAS[name]}


def passage_row(name: str, number: int) -> dict[str, object]:
    """Passage `number` of a passages table."""
    full = {
        "passage_id": f"{name}_{number}",
        "passage_content": f"Thing {number} is a {name} thing.",
        "language": "en",
        "title": f"Thing {number}",
    }
    return {column: full[column] for column in PASSAGE_SCHEMAS[name]}


def write_parquet(path: Path, rows: list[dict[str, object]], schema: dict[str, pa.DataType]) -> None:
    """One file with small row groups."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(schema)), path, row_group_size=2)


def write_tables(root: Path, name: str, splits: tuple[str, ...] | None = None, rows: int = 4, parts: int = 1) -> None:
    """Data and passages of one dataset as on the hub, `rows` questions and as many passages a part."""
    for split in splits or SPLITS[name]:
        numbers = [list(range(part * rows, (part + 1) * rows)) for part in range(parts)]
        for part, mine in enumerate(numbers):
            suffix = f"{part:05d}-of-{parts:05d}.parquet"
            write_parquet(
                root / f"{name}_data" / f"{split}-{suffix}", [data_row(name, n) for n in mine], DATA_SCHEMAS[name]
            )
            write_parquet(
                root / f"{name}_passages" / f"{split}_passages-{suffix}",
                [passage_row(name, n) for n in mine],
                PASSAGE_SCHEMAS[name],
            )


def write_pictures(root: Path, names: list[str] | None = None, rows: int = 12) -> None:
    """The pictures that the rows name."""
    for name in names or IMAGE_PLACES:
        for number in range(rows):
            path = root / IMAGE_PLACES[name][0].format(f"{number:04d}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(number))
