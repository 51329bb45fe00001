"""`mmret data build interleaved`: what asks and what answers, where pictures stand, what is left out."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmret.data import DataSpec
from mmret.data.sources.fetch import opener
from mmret.data.sources.interleaved import InterleavedConfig, build_interleaved
from mmret.data.sources.interleaved.document import first_words, last_words
from mmret.errors import ConfigError, SampleError
from mmret.models.vlm2vec.prompt import compose
from tests.unit.data.sources.pictures import picture, web
from tests.unit.data.test_dataset import module


def document(parts, **more):
    """Lists of a document of texts and, as numbers, pictures."""
    images = [f"{part}.png" if isinstance(part, int) else None for part in parts]
    return {"texts": [None if isinstance(part, int) else part for part in parts], "images": images, **more}


def build(folder, rows, **options):
    folder.mkdir(exist_ok=True)
    for number in range(6):
        (folder / f"{number}.png").write_bytes(picture(number))
    file = folder / "docs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (built,) = build_interleaved(InterleavedConfig([str(file)], out=str(folder / "out"), **options))
    source = DataSpec.load(folder / "out/train.yaml").open()
    return [source.example(n) if source.parse(n).positives else source.parse(n) for n in range(len(source))], built


def content(one):
    return one.text, [image.data for image in one.images]


PARTS = ["A.", 0, "B.", "C.", 1, 2, "D.", 3]


def test_a_text_and_the_pictures_below_it_ask_and_the_text_that_follows_answers(tmp_path):
    rows, built = build(tmp_path, [document(PARTS)])
    assert [(content(row.query), row.positives[0].text) for row in rows] == [
        (("A.\n<|image_1|>", [picture(0)]), "B.\nC."),
        (("B.\nC.\n<|image_1|>\n<|image_2|>", [picture(1), picture(2)]), "D."),
    ]
    assert [row.key.partition(":")[2] for row in rows] == ["000000000-000", "000000000-001"]
    assert (built.queries.rows, built.queries.kept, built.queries.left_out) == (1, 2, {})
    # VLM2Vec puts its own placeholders where the pictures stand.
    assert compose(rows[1].query, "<image>") == "B.\nC.\n<image>\n<image>"


def test_a_document_that_begins_with_a_picture_asks_with_it_alone(tmp_path):
    (row,), _ = build(tmp_path, [document([0, "B."])])
    assert content(row.query) == ("<|image_1|>", [picture(0)]) and row.positives[0].text == "B."
    (row,), _ = build(tmp_path / "plain", [document([0, "B."])], no_placeholders=True)
    assert content(row.query) == (None, [picture(0)])


def test_a_column_may_ask_for_the_whole_document(tmp_path):
    (row,), _ = build(tmp_path, [document(PARTS, title=" T ", lang="en")], query_column="title", facts=["lang"])
    assert row.query.text == "T" and row.meta == {"lang": "en"}
    text = "A.\n<|image_1|>\nB.\nC.\n<|image_2|>\n<|image_3|>\nD.\n<|image_4|>"
    assert content(row.positives[0]) == (text, [picture(n) for n in range(4)])
    assert row.positives[0].id == "000000000"


def test_without_pairs_a_sample_is_a_whole_document(tmp_path):
    (row,), _ = build(tmp_path, [document(PARTS)], pairs="none", max_images=2)
    assert content(row.query) == ("A.\n<|image_1|>\nB.\nC.\n<|image_2|>\nD.", [picture(0), picture(1)])
    assert row.positives == []


def test_texts_are_cut_where_they_matter_least(tmp_path):
    (row,), _ = build(tmp_path, [document(["a b c", 0, "d e f"])], max_words=2)
    assert (row.query.text, row.positives[0].text) == ("b c\n<|image_1|>", "d e")
    parts = ["a b", 0, "c d", 1, "e"]
    (row,), _ = build(tmp_path / "whole", [document(parts)], pairs="none", max_words=3)
    assert content(row.query) == ("a b\n<|image_1|>\nc\n<|image_2|>", [picture(0), picture(1)])
    assert (first_words("a\n b  c", 2), last_words("a\n b  c", 2)) == ("a\n b", "b  c")
    assert first_words("a b", 2) == last_words("a b", 2) == "a b"


def test_what_a_page_says_is_no_placeholder(tmp_path):
    (row,), _ = build(tmp_path, [document(["see <|image_1|> or <image>", 0, "<video> B."])])
    assert row.query.text == "see   or\n<|image_1|>" and row.positives[0].text == "B."


def test_pictures_that_do_not_come_are_left_out_of_their_document(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    opener.cache_clear()
    with web({"/0": [(200, {}, picture(0))], "/1": [(200, {}, picture(1))]}) as (address, asked):
        texts, images = ["A", None, "B", None, None, "C", None], [None, "0", None, "x", "1", None, "last"]
        images = [image and f"{address}/{image}" for image in images]
        rows, built = build(
            tmp_path, [{"texts": texts, "images": images}, document([0]) | {"images": [f"{address}/x"]}]
        )
        assert "/last" not in asked  # no text follows it
    assert [(content(row.query), row.positives[0].text) for row in rows] == [
        (("A\n<|image_1|>", [picture(0)]), "B"),
        (("B\n<|image_1|>", [picture(1)]), "C"),
    ]
    assert built.queries.left_out == {"url: http 404": 1, "no picture that a text follows": 1}


def test_a_lost_picture_joins_the_texts_around_it(tmp_path):
    rows = [document(["A", 9, "B", 1, "C"])]
    with pytest.raises(SampleError, match=r"docs.jsonl row 1: no picture '9.png' in .*--skip-missing-images"):
        build(tmp_path, rows)
    (row,), _ = build(tmp_path, rows, skip_missing_images=True)
    assert (row.query.text, row.positives[0].text) == ("A\nB\n<|image_1|>", "C")


def test_broken_documents_are_left_out_by_reason(tmp_path):
    good = document(["A", 0, "B"])
    broken = [
        {"texts": ["A", "B"], "images": [None]},
        {"texts": ["A", "B"], "images": [None, "0.png"]},
        {"texts": ["A", None], "images": [None, ""]},
        {"texts": "A", "images": ["0.png"]},
        {"texts": ["A", 7], "images": ["", None]},
        document(["A", "B"]),
        document(["A", 0]),
    ]
    rows, built = build(tmp_path, [good, *broken])
    assert len(rows) == 1
    assert built.queries.first == {
        "unequal lists": "docs.jsonl row 2: 2 texts, 1 images; want a place in both for each",
        "both set": "docs.jsonl row 3: place 1 has both a text and an image; want one of them",
        "neither set": "docs.jsonl row 4: place 1 has neither text nor image; want one of them",
        "no lists": "docs.jsonl row 5: texts and images are str and list; want two lists of the same length",
        "no text": "docs.jsonl row 6: place 1 of the texts holds int",
        "no picture that a text follows": "docs.jsonl row 7: 2 parts",
    }


def test_parquet_with_bytes_and_other_column_names(tmp_path):
    table = pa.table({"t": [["A", None, "B"]], "i": pa.array([[None, picture(0), None]], pa.list_(pa.binary()))})
    pq.write_table(table, tmp_path / "docs.parquet")
    options = {"texts_column": "t", "images_column": "i", "out": str(tmp_path / "out")}
    build_interleaved(InterleavedConfig([str(tmp_path / "docs.parquet")], **options))
    row = DataSpec.load(tmp_path / "out/train.yaml").open().example(0)
    assert content(row.query) == ("A\n<|image_1|>", [picture(0)])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"pairs": "some"}, "pairs must be one of consecutive, none, got 'some'"),
        ({"max_images": 0}, "max_images must be more than 0, got 0"),
        ({"texts_column": "text"}, "no column 'text'; it has texts, images. Did you mean 'texts'?"),
        ({"query_column": "title"}, "no column 'title'"),
    ],
)
def test_wrong_options_are_explained(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        build(tmp_path, [document(["A", 0, "B"])], **options)


@pytest.mark.parametrize("options", [{}, {"query_column": "title"}])
def test_training_draws_a_batch_from_it(tmp_path, options):
    build(tmp_path, [document(["A", n % 6, f"B {n}"], title=f"T {n}") for n in range(20)], **options)
    batch = module({tmp_path / "out/train.yaml": 1}).dataset()[0]
    assert len(batch) == 8 and batch.document is not None
    wanted = b"|A\n<|image_1|>\nB" if options else b"|B "
    assert bytes(batch.document.dense["bytes"][0, : len(wanted)].tolist()) == wanted
