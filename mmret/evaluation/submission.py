"""Predictions as evaluation servers take them: VQA's JSON of answers, NLVR2's table of true and false."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path


def write_submission(path: Path, ids: Sequence[str], answers: Sequence[str]) -> None:
    """Write one prediction for each query, in their order.

    `.json`: [{"question_id": int where the id is one, else text, "answer": text}, ...] (visualqa.org/evaluation).
    `.csv`: lines of id, answer, no heading (NLVR2's evaluation script).
    """
    if path.suffix == ".json":
        rows = [
            {"question_id": int(id) if id.isdecimal() else id, "answer": answer} for id, answer in zip(ids, answers)
        ]
        text = json.dumps(rows)
    else:
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows(zip(ids, answers))
        text = lines.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
