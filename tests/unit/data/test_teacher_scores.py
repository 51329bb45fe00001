"""A teacher's scores stay with the documents that were drawn."""

import math

import pytest
import torch

from mmret.data import Sample, write_shards, write_table
from mmret.data.collate import collate
from mmret.data.draw import draw
from mmret.data.plan import Row
from mmret.data.spec import DataSpec
from mmret.errors import SampleError
from mmret.types import Inputs


def source(folder, rows):
    """Sample i: positives p0, p1 and negatives n0, n1, n2 unless `rows[i]` says otherwise."""
    write_table([{"id": id, "text": id} for id in ("p0", "p1", "n0", "n1", "n2", "other")], folder / "d.arrow")
    base = {"query": {"text": "q"}, "positives": ["p0", "p1"], "negatives": ["n0", "n1", "n2"]}
    write_shards([Sample(f"{number:03d}", {**base, **row}) for number, row in enumerate(rows)], folder, "train")
    return DataSpec("toy", "train.manifest.json", documents="d.arrow", file=str(folder / "spec.yaml")).open()


SCORES = {"p0": 10.0, "p1": 11.0, "n0": 0.0, "n1": 1.0, "n2": 2.0}


def rows_of(opened, documents):
    return [
        draw(opened, Row("toy", epoch, index, 0), documents, 0) for epoch in range(8) for index in range(len(opened))
    ]


def test_each_drawn_document_keeps_its_score(tmp_path):
    for row in rows_of(source(tmp_path, [{"scores": list(SCORES.values())}]), 3):
        assert row.scores == tuple(SCORES[document.id] for document in row.documents)


def test_documents_from_the_table_and_nulls_have_no_score(tmp_path):
    for row in rows_of(source(tmp_path, [{"negatives": ["n0"], "scores": [10.0, None, 0.5]}]), 3):
        assert row.scores[0] == 10.0 or (row.documents[0].id == "p1" and math.isnan(row.scores[0]))
        assert row.scores[1] == 0.5 and math.isnan(row.scores[2])


def test_scores_of_a_batch_are_nan_for_rows_that_bring_none(tmp_path):
    opened = source(tmp_path, [{"scores": list(SCORES.values())}, {}])

    def processor(contents, role):
        return Inputs({"x": torch.zeros(len(contents))})

    batch = collate([draw(opened, Row("toy", 0, index, 0), 2, 0) for index in range(2)], processor)
    assert batch.teacher_scores.shape == (2, 2)
    assert batch.teacher_scores[0].isfinite().all() and batch.teacher_scores[1].isnan().all()
    assert collate([draw(opened, Row("toy", 0, 1, 0), 2, 0)], processor).teacher_scores is None


def test_a_wrong_number_of_scores_is_refused(tmp_path):
    with pytest.raises(SampleError, match=r"000: scores must be 5 numbers, .*; got 2"):
        rows_of(source(tmp_path, [{"scores": [1.0, 2.0]}]), 2)
