import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmret.data import Table, table, write_table
from mmret.errors import ConfigError, SampleError

ROWS = [
    {
        "id": f"d{i}",
        "text": f"text {i}" if i % 3 else None,
        "image": bytes([i]) * i if i % 2 else None,
        "topic": f"t{i % 4}",
    }
    for i in range(100)
]


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("batch_rows", [7, 1000])
def test_rows_come_back_by_id_and_in_order(tmp_path, monkeypatch, compress, batch_rows):
    monkeypatch.setattr(table, "_BATCH_ROWS", batch_rows)
    write_table(ROWS, tmp_path / "t.arrow", compress=compress)
    opened = Table.open(tmp_path / "t.arrow")
    assert len(opened) == 100 and opened.columns == ("id", "text", "image", "topic")
    assert list(opened.rows()) == ROWS
    assert opened.ids() == [row["id"] for row in ROWS]
    for number, row in enumerate(ROWS):
        assert opened.find(row["id"]) == number and opened.get(row["id"]) == row and row["id"] in opened
    assert opened.get("d5", ["topic"]) == {"topic": "t1"}


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=40, unique=True), st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_any_ids_are_found_and_no_others(tmp_path_factory, ids, batch_rows):
    path = tmp_path_factory.mktemp("table") / "t.arrow"
    before, table._BATCH_ROWS = table._BATCH_ROWS, batch_rows
    try:
        write_table(({"id": id} for id in ids), path)
    finally:
        table._BATCH_ROWS = before
    opened = Table.open(path)
    assert [opened.find(id) for id in ids] == list(range(len(ids)))
    assert opened.find("absent") is None and 3 not in opened


def test_ids_with_equal_hashes_are_told_apart_across_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "_hash", lambda id: 42 if id != "z" else 7)
    monkeypatch.setattr(table, "_BATCH_ROWS", 2)
    write_table(({"id": id} for id in "abcdefz"), tmp_path / "t.arrow")
    opened = Table.open(tmp_path / "t.arrow")
    assert [opened.find(id) for id in "abcdefzy"] == [0, 1, 2, 3, 4, 5, 6, None]


def test_an_unknown_id_is_named(tmp_path):
    write_table(ROWS, tmp_path / "t.arrow")
    with pytest.raises(SampleError, match=r"t\.arrow has no id 'x'"):
        Table.open(tmp_path / "t.arrow").get("x")


def test_a_table_pickles_as_its_path(tmp_path):
    write_table(ROWS, tmp_path / "t.arrow")
    opened = Table.open(tmp_path / "t.arrow")
    assert len(pickle.dumps(opened)) < 300
    assert pickle.loads(pickle.dumps(opened)).get("d7") == ROWS[7]


@pytest.mark.parametrize(
    "rows, message",
    [
        ([{"id": "a"}, {"id": "a"}], "id 'a' occurs twice"),
        ([{"id": ""}], "row 0 has id ''"),
        ([{"text": "x"}], "row 0 has id None"),
        ([], "no rows"),
        ([{"id": "a", "hash": 1}], "'hash' is taken"),
        ([{"id": "a", "text": 3}], "column 'text' is string, rows 'a' to 'a'"),
    ],
)
def test_what_cannot_be_a_table_is_refused_and_leaves_no_file(tmp_path, rows, message):
    with pytest.raises(SampleError, match=message):
        write_table(rows, tmp_path / "t.arrow")
    assert list(tmp_path.iterdir()) == []


def test_a_column_that_comes_late_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "_BATCH_ROWS", 2)
    with pytest.raises(SampleError, match="row 'c' brings the column 'x'"):
        write_table([{"id": "a"}, {"id": "b"}, {"id": "c", "x": 1}], tmp_path / "t.arrow")


def test_what_is_no_table_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no such table"):
        Table.open(tmp_path / "t.arrow")
    (tmp_path / "t.arrow").write_bytes(b"text")
    with pytest.raises(ConfigError, match="not an Arrow table"):
        Table.open(tmp_path / "t.arrow")


def test_lists_of_bytes_count_towards_what_is_written_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "_BATCH_BYTES", 100)
    rows = [{"id": str(number), "frames": [b"x" * 30] * 2} for number in range(6)]
    written = []
    monkeypatch.setattr(
        table, "_batch", lambda chunk, *rest, real=table._batch: written.append(len(chunk)) or real(chunk, *rest)
    )
    write_table(rows, tmp_path / "t.arrow")
    assert written == [2, 2, 2]
    assert Table.open(tmp_path / "t.arrow").row(5)["frames"] == [b"x" * 30] * 2
