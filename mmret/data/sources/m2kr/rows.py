"""One row of M2KR's tables to one sample or passage: the odd cases are settled here."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

from mmret.data.shards import Sample
from mmret.data.sources.m2kr.facts import DatasetFacts

QUERY_COLUMNS = ("question_id", "question", "instruction", "img_path", "pos_item_ids", "answers")
PASSAGE_COLUMNS = ("passage_id", "passage_content")


def query_sample(
    row: Mapping[str, Any],
    dataset: DatasetFacts,
    key: str,
    positives: list[str],
    image: tuple[str, bytes] | None,
    instructed: bool = True,
) -> Sample:
    """A question as it goes into a shard.

    Args:
        positives: those of `positive_ids(row)` that the passages have.
        image: suffix and bytes of its picture.
        instructed: keep the row's instruction.
    """
    query: dict[str, Any] = {}
    # CC's questions are null and WIT's may be empty: such a query is its picture and its instruction.
    given = instruction(row.get("instruction")) if instructed else None
    for name, value in (("text", _text(row.get("question"))), ("instruction", given)):
        if value:
            query[name] = value
    members = {}
    if image is not None:
        suffix, data = image
        members[f"q.0.{suffix}"] = data
        query["images"] = list(members)
    sample: dict[str, Any] = {"query": query, "positives": positives, "question_id": str(row["question_id"])}
    if row.get("answers") is not None:
        sample["answers"] = [answer for answer in as_list(row["answers"]) if answer.strip()]
    if row.get("img_path"):
        # The only name of a picture that all sets have: OKVQA has neither image_id nor img_id.
        sample["image_path"] = row["img_path"]
    for name in dataset.extras:
        value = _plain(row.get(name))
        if value not in (None, "", []):
            sample[name] = value
    return Sample(key, sample, members)


def passage_row(row: Mapping[str, Any], extras: list[str]) -> dict[str, Any]:
    """A passage as it goes into the documents table; `extras` are columns that this table has."""
    return {
        "id": str(row["passage_id"]),
        "text": row["passage_content"] or None,
        **{name: _text(row.get(name)) for name in extras},
    }


def positive_ids(row: Mapping[str, Any]) -> list[str]:
    """Ids of the passages that answer a question, each once."""
    return list(dict.fromkeys(as_list(row.get("pos_item_ids"))))


def as_list(value: Any) -> list[str]:
    """A list column as texts; some copies hold it as a string that shows a list (JSON or Python)."""
    if value is None:
        return []
    if isinstance(value, str):
        if value.strip().startswith("["):
            for parse in (json.loads, ast.literal_eval):
                try:
                    parsed = parse(value)
                except (ValueError, SyntaxError):
                    continue
                if isinstance(parsed, list):
                    return as_list(parsed)
        return [value] if value.strip() else []
    return [str(item) for item in value if item is not None]


def instruction(value: str | None) -> str | None:
    """The instruction as the released evaluation gives it to the model: stripped, and ending in the separator ":"."""
    text = _text(value)
    return text if text is None or text.endswith(":") else text + ":"


def _text(value: Any) -> str | None:
    return str(value).strip() or None if value is not None else None


def _plain(value: Any) -> Any:
    """OKVQA's captions come as {caption, conf}; the words are enough."""
    return value.get("caption") if isinstance(value, Mapping) else value
