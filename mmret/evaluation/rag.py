"""Hand-over to a generator: for each question the documents found, as plain JSON lines.

One line a question:
    {"question_id", "question", "instruction"?, "image"?, "image_path"?, "answers"?,
     "documents": [{"id", "text", "score", "relevant"}, ...]}        best first
`image` is a file written beside (where images are asked for), `image_path` the name that the data gives the picture,
`relevant` whether the document is known to answer; a generator must not be shown it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmret.errors import ConfigError
from mmret.evaluation.result import SplitResult
from mmret.ops import rank_and_world
from mmret.types import EncodedImage

_SUFFIXES = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png", b"GIF8": "gif", b"RIFF": "webp"}


def write_rag(result: SplitResult, path: str | Path, k: int = 5, image_folder: str | Path | None = None) -> int:
    """Write the k best documents of every query; gives the number of lines. With several ranks only the first writes.

    Args:
        result: of an evaluator, on a split as it is or under a control.
        path: the file, replaced whole or not at all.
        k: documents a question.
        image_folder: where the questions' pictures are written, bytes as they are; None: nowhere.

    Raises:
        ConfigError: the result has no ranking (chance), or one shorter than k.
    """
    _check(result, k)
    if rank_and_world()[0]:
        return len(result.split)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        for row in rag_rows(result, k, None if image_folder is None else Path(image_folder), path.parent):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    os.replace(part, path)
    return len(result.split)


def rag_rows(
    result: SplitResult, k: int = 5, image_folder: Path | None = None, seen_from: Path | None = None
) -> Iterator[dict[str, Any]]:
    """The lines as dictionaries.

    Args:
        result, k, image_folder: as `write_rag`.
        seen_from: `image` is given relative to this folder where it lies below; None: as it is.
    """
    _check(result, k)
    assert result.rows is not None and result.scores is not None
    split, corpus = result.split, result.split.benchmark.corpus
    for number, query in enumerate(split.queries):
        sample = split.source.parse(number)
        row: dict[str, Any] = {"question_id": query.id, "question": sample.query.text or ""}
        if sample.query.instruction:
            row["instruction"] = sample.query.instruction
        if sample.query.images and image_folder is not None:
            files = [_write_image(image, image_folder, query.id, i) for i, image in enumerate(sample.query.images)]
            shown = [str(_relative(file, seen_from)) for file in files]
            row["image"] = shown[0] if len(shown) == 1 else shown
        for name in ("image_path", "answers"):
            if sample.meta.get(name):
                row[name] = sample.meta[name]
        row["documents"] = [
            {
                "id": corpus.id(document),
                "text": corpus.text(document),
                "score": round(score, 4),
                "relevant": document in query.relevant,
            }
            for document, score in zip(result.rows[number, :k].tolist(), result.scores[number, :k].tolist())
            if document >= 0
        ]
        yield row


def _check(result: SplitResult, k: int) -> None:
    if result.rows is None or result.scores is None:
        raise ConfigError(f"{result.prefix} holds no ranking to hand over")
    available = min(result.rows.shape[1], len(result.split.benchmark.corpus))
    if not 1 <= k <= available:
        raise ConfigError(f"{result.prefix}: k must be 1 to {available} (the documents retrieved), got {k}")


def _write_image(image: EncodedImage, folder: Path, id: str, number: int) -> Path:
    """Ids may hold anything; a file name may not."""
    suffix = next((suffix for magic, suffix in _SUFFIXES.items() if image.data.startswith(magic)), "img")
    name = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in id)
    # Two ids may look alike once cleaned: the content's key tells them apart.
    file = folder / f"{name[:80]}-{image.key.hex()[:8]}{f'-{number}' if number else ''}.{suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_bytes(image.data)
    return file


def _relative(file: Path, seen_from: Path | None) -> Path:
    if seen_from is not None and file.resolve().is_relative_to(seen_from.resolve()):
        return file.resolve().relative_to(seen_from.resolve())
    return file
