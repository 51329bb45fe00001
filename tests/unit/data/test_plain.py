"""Rows drawn a run at a time are the rows that `draw` gives, or none."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmret.data import DataSpec, Sample, write_shards, write_table
from mmret.data.draw import draw
from mmret.data.plain import PlainRows
from mmret.data.plan import Run
from mmret.errors import SampleError
from mmret.types import Need

FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

words = st.text(min_size=1, max_size=8).filter(lambda text: text.strip())
odd_text = st.one_of(st.none(), words, st.just(""), st.just("  "), st.just(3), st.just("ſ\u2028\\"))
images = st.sampled_from([None, [], ["q.0.jpg"], ["q.0.jpg", "p.jpg"], ["shown"], ["none"], "q.0.jpg", [3]])


def sides(**more):
    return st.fixed_dictionaries(
        {}, optional={"text": odd_text, "images": images, "video": st.sampled_from([None, []])} | more
    )


rows = st.fixed_dictionaries(
    {"query": st.one_of(sides(instruction=odd_text), st.none())},
    optional={
        "positives": st.lists(st.one_of(sides(id=odd_text), st.sampled_from(["d0", "d1", "absent"])), max_size=2),
        "negatives": st.one_of(st.none(), st.lists(words, max_size=2), st.just("x")),
        "scores": st.one_of(st.none(), st.lists(st.floats(0, 1), max_size=3)),
        "topic": st.one_of(words, st.integers()),
    },
)


def source(folder, row, required=(), instructions=()):
    members = {"q.0.jpg": b"\xff\xd8\xff one", "p.jpg": b"two"}
    write_shards(
        [Sample("good", {"query": {"text": "q"}, "positives": [{"text": "p"}]}), Sample("odd", row, members)], folder
    )
    write_table([{"id": f"d{i}", "text": f"passage {i}"} for i in range(3)], folder / "documents.arrow")
    write_table([{"id": "shown", "image": b"three"}], folder / "images.arrow")
    lines = ["name: toy", "shards: train.manifest.json", "documents: documents.arrow", "images: images.arrow"]
    lines += [f"required: {json.dumps(list(required))}", f"instructions: {json.dumps(list(instructions))}"]
    (folder / "toy.yaml").write_text("\n".join(lines))
    return DataSpec.load(folder / "toy.yaml").open()


@FEW
@given(row=rows, required=st.sampled_from([(), ("query.text",), ("positives.images",)]), number=st.integers(0, 3))
def test_what_is_drawn_a_run_at_a_time_is_what_draw_gives(tmp_path_factory, row, required, number):
    opened = source(tmp_path_factory.mktemp("toy"), row, required, [f"do {i}" for i in range(number)])
    run = Run("toy", 5, [1, 0, 1], 40)
    plain = PlainRows(opened, 1, 9, frozenset({Need.DOCUMENT})).draw(run)
    if plain is not None:
        assert plain == [draw(opened, one, 1, 9) for one in run.rows()]


GOOD = {"query": {"text": "q", "images": ["q.0.jpg"]}, "positives": [{"id": "a", "text": "p", "images": ["p.jpg"]}]}


@pytest.mark.parametrize(
    "row",
    [
        GOOD,
        {**GOOD, "negatives": ["d0"], "topic": "birds"},
        {**GOOD, "positives": ["d1"]},
        {"query": {"images": ["shown"], "instruction": "i"}, "positives": [{"text": "p"}]},
    ],
)
def test_usual_rows_are_drawn_a_run_at_a_time(tmp_path, row):
    opened = source(tmp_path, row)
    assert PlainRows(opened, 1, 0, frozenset({Need.DOCUMENT})).draw(Run("toy", 0, [1], 0)) is not None


@pytest.mark.parametrize("documents, needs", [(2, {Need.DOCUMENT}), (1, {Need.TARGETS}), (1, {Need.NEGATIVES})])
def test_rows_that_need_negatives_or_labels_are_left_to_draw(tmp_path, documents, needs):
    opened = source(tmp_path, GOOD)
    assert PlainRows(opened, documents, 0, frozenset(needs)).draw(Run("toy", 0, [1], 0)) is None


def test_a_broken_row_is_left_to_draw_which_says_what_is_wrong(tmp_path):
    opened = source(tmp_path, {**GOOD, "positives": [{"text": " "}]})
    assert PlainRows(opened, 1, 0, frozenset({Need.DOCUMENT})).draw(Run("toy", 0, [0, 1], 0)) is None
    with pytest.raises(SampleError, match=r"odd: positives\.text is empty"):
        draw(opened, Run("toy", 0, [0, 1], 0).rows()[1], 1, 0)


def test_one_broken_row_does_not_end_it_and_many_runs_without_a_plain_one_do(tmp_path):
    opened = source(tmp_path, {**GOOD, "positives": []})
    rows, good, odd = PlainRows(opened, 1, 0, frozenset()), Run("toy", 0, [0], 0), Run("toy", 0, [1], 0)
    assert rows.draw(odd) is None and rows.draw(good) is not None
    assert [rows.draw(odd) for _ in range(8)] == [None] * 8 and rows.draw(good) is None
