from collections import Counter

import pytest

from mmret.data import DataSpec, Row, Sample, write_shards, write_table
from mmret.data.draw import draw
from mmret.errors import ConfigError
from mmret.types import document_number


def source_of(folder, samples, table=20, **fields):
    write_shards([Sample(str(i), row) for i, row in enumerate(samples)], folder)
    if table:
        write_table(({"id": f"d{i}", "text": f"text {i}"} for i in range(table)), folder / "documents.arrow")
        fields["documents"] = "documents.arrow"
    return DataSpec("toy", "train.manifest.json", file=str(folder / "toy.yaml"), **fields).open()


def drawn(source, count=4, index=0, epoch=0, seed=0):
    return draw(source, Row("toy", epoch, index, 0), count, seed)


QUERY = {"query": {"text": "q"}}


def test_a_draw_depends_on_seed_epoch_and_sample_only(tmp_path):
    source = source_of(tmp_path, [QUERY | {"positives": ["d1", "d2", "d3"]}] * 2, instructions=["a", "b", "c"])
    first = drawn(source)
    for other in ({"index": 1}, {"epoch": 1}, {"seed": 1}):
        changed = [drawn(source, **other) for _ in range(2)]
        assert changed[0] == changed[1]
        assert changed[0].documents != first.documents
    assert drawn(source) == first


def test_positives_negatives_and_instructions_are_drawn_evenly(tmp_path):
    row = QUERY | {"positives": ["d1", "d2"], "negatives": ["d3", "d4", "d5"]}
    source = source_of(tmp_path, [row], instructions=["look", "find"])
    rows = [drawn(source, 2, epoch=epoch) for epoch in range(600)]
    for chosen, expected in (
        ([r.documents[0].id for r in rows], {"d1": 300, "d2": 300}),
        ([r.documents[1].id for r in rows], {"d3": 200, "d4": 200, "d5": 200}),
        ([r.query.instruction for r in rows], {"look": 300, "find": 300}),
    ):
        counts = Counter(chosen)
        assert set(counts) == set(expected)
        # 5 standard deviations of a binomial count of 600.
        assert all(abs(counts[name] - number) < 62 for name, number in expected.items())


def test_own_negatives_come_first_and_the_table_fills_the_rest(tmp_path):
    source = source_of(tmp_path, [QUERY | {"positives": ["d1", "d2"], "negatives": ["d3", "d4"]}])
    for epoch in range(50):
        ids = [document.id for document in drawn(source, 6, epoch=epoch).documents]
        assert len(set(ids)) == 6 and ids[0] in ("d1", "d2") and set(ids[1:3]) == {"d3", "d4"}
        assert not set(ids[1:]) & {"d1", "d2"}


def test_a_passage_that_stands_in_the_row_without_an_id_is_no_negative(tmp_path):
    source = source_of(tmp_path, [QUERY | {"positives": [{"text": "text 1"}]}], table=3)
    for epoch in range(20):
        assert {document.id for document in drawn(source, 3, epoch=epoch).documents[1:]} == {"d0", "d2"}


def test_all_documents_but_the_positives_can_be_drawn(tmp_path):
    source = source_of(tmp_path, [QUERY | {"positives": ["d1", "d2"]}], table=6)
    assert {document.id for document in drawn(source, 5).documents[1:]} == {"d0", "d3", "d4", "d5"}
    with pytest.raises(ConfigError, match=r"documents_per_query is 6.* has only 6 documents, too few to draw 5 others"):
        drawn(source, 6)


def test_too_few_negatives_without_a_table_stop_the_run(tmp_path):
    source = source_of(tmp_path, [QUERY | {"positives": [{"text": "p"}], "negatives": [{"text": "n"}]}], table=0)
    assert len(drawn(source, 2).documents) == 2
    with pytest.raises(ConfigError, match=r"train-000000\.tar:0: documents_per_query is 3, .*1.*toy\.yaml has no doc"):
        drawn(source, 3)


def test_numbers_name_documents_by_id_or_by_content(tmp_path):
    inline = {"text": "same"}
    rows = [
        QUERY | {"positives": ["d1", "d2", "d1", {"id": "d3", "text": "x"}, inline]},
        QUERY | {"positives": [inline]},
    ]
    source = source_of(tmp_path, rows)
    first, second = drawn(source, 1), drawn(source, 1, index=1)
    ids = {document_number("toy", f"d{i}") for i in (1, 2, 3)}
    assert len(first.positive_numbers) == 4 and ids < set(first.positive_numbers)
    assert set(first.positive_numbers) - ids == set(second.positive_numbers) == {second.document_numbers[0]}
    assert first.document_numbers[0] in first.positive_numbers


def test_a_rows_own_instruction_stays(tmp_path):
    row = {"query": {"text": "q", "instruction": "mine"}, "positives": ["d1"]}
    assert drawn(source_of(tmp_path, [row], instructions=["a"]), 1).query.instruction == "mine"
