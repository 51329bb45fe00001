import json

import pytest

from mmret.data import Table, write_table
from mmret.data.decode import Decoder
from mmret.data.reader import RawSample
from mmret.data.spec import DataSpec
from mmret.errors import SampleError
from tests.builders import draw_shape

PNG = draw_shape("red", "circle", 8, __import__("random").Random(0))


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    write_table([{"id": "d1", "text": "one"}, {"id": "d2", "image": PNG}, {"id": "void"}], folder / "documents.arrow")
    write_table([{"id": "i1", "image": PNG + b"1"}], folder / "images.arrow")
    return Table(folder / "documents.arrow"), Table(folder / "images.arrow")


def decode(row, tables=(None, None), required=(), **members):
    spec = DataSpec("toy", "-", required=list(required), file="specs/toy.yaml")
    data = row if isinstance(row, bytes) else json.dumps(row).encode()
    members = {name.replace("_", "."): value for name, value in members.items()}
    return Decoder(spec, *tables).example(RawSample("train-000000.tar:0007", {"json": data, **members}))


def test_every_part_of_a_sample_is_decoded(tables):
    row = {
        "query": {"text": "what?", "instruction": "look", "images": ["q.0.png", "i1"]},
        "positives": ["d1", {"id": "x", "text": "inline", "images": ["p.0.png"]}],
        "negatives": ["d2", {"text": "no id"}],
        "answers": ["a"],
        "topic": "t",
    }
    example = decode(row, tables, q_0_png=PNG, p_0_png=PNG + b"p")
    assert (example.key, example.source) == ("train-000000.tar:0007", "toy")
    assert (example.query.text, example.query.instruction) == ("what?", "look")
    assert [image.data for image in example.query.images] == [PNG, PNG + b"1"]
    assert [image.name for image in example.query.images] == ["train-000000.tar:0007.q.0.png", "images.arrow:i1"]
    assert [(c.id, c.text) for c in example.positives] == [("d1", "one"), ("x", "inline")]
    assert example.positives[1].images[0].data == PNG + b"p"
    assert [(c.id, c.text, len(c.images)) for c in example.negatives] == [("d2", None, 1), (None, "no id", 0)]
    assert example.meta == {"answers": ["a"], "topic": "t"}


def test_a_videos_frames_are_members_or_pictures_of_the_table(tables):
    frames = ["q.v.000.png", "i1"]
    row = {"query": {"video": {"frames": frames, "fps": 2.5}}, "positives": [{"id": "x", "video": frames[:1]}]}
    example = decode(row, tables, required=["query.video", "positives.video"], q_v_000_png=PNG)
    assert [frame.data for frame in example.query.video.frames] == [PNG, PNG + b"1"]
    assert (example.query.video.fps, example.positives[0].video.fps) == (2.5, None)
    assert [frame.name for frame in example.query.pictures] == ["train-000000.tar:0007.q.v.000.png", "images.arrow:i1"]


def test_a_member_hides_an_image_of_the_table_with_its_name(tables):
    example = decode({"query": {"images": ["i1"]}, "positives": ["d1"]}, tables, i1=b"member")
    assert example.query.images[0].data == b"member"


GOOD = {"query": {"text": "q"}, "positives": [{"text": "p"}]}


@pytest.mark.parametrize(
    "row, message",
    [
        (b"{", "its json does not parse"),
        (b"\xff\xfe{}", "its json does not parse"),
        (b"[]", "its json is a list"),
        ({}, "query is missing"),
        ({"query": "q", "positives": []}, "query is a text"),
        (
            {"query": {"text": "q", "image": ["x"]}, "positives": ["a"]},
            "query has an unknown field image; known: im",
        ),
        ({"query": {"text": "q"}}, "positives and negatives must be lists"),
        ({"query": {"text": "q"}, "positives": []}, "no positives"),
        ({"query": {}, "positives": ["d1"]}, "query has neither text nor images"),
        ({"query": {"text": " "}, "positives": ["d1"]}, "query.text is empty"),
        ({"query": {"text": 3}, "positives": ["d1"]}, "query.text is a number"),
        ({"query": {"images": "q.0.png"}, "positives": ["d1"]}, "query.images is a text, want a list"),
        (
            {"query": {"images": ["q.0.png"]}, "positives": ["d1"]},
            r"names 'q.0.png'.*it has json.*images.arrow",
        ),
        ({"query": {"images": [3]}, "positives": ["d1"]}, "query.images names 3"),
        (GOOD | {"positives": ["nope"]}, "positives names document 'nope', which .*documents.arrow does not have"),
        (GOOD | {"negatives": ["nope"]}, "negatives names document 'nope'"),
        (GOOD | {"positives": [7]}, "positives holds a number"),
        (GOOD | {"positives": [{"title": "p"}]}, "positives has an unknown field title"),
        (GOOD | {"positives": [{"text": ""}]}, "positives.text is empty"),
        (GOOD | {"positives": [{"id": "x"}]}, "positives has neither text nor images"),
        (GOOD | {"positives": ["void"]}, "positives has neither text nor images"),
        (GOOD | {"query": {"video": "q.v.000.jpg"}}, "query.video is a text, want a list of frames"),
        (GOOD | {"query": {"video": {"fps": 2}}}, "query.video is missing, want a list of frames"),
        (GOOD | {"query": {"video": {"frames": ["i1"], "rate": 2}}}, "query.video has an unknown field; known: fps"),
        (GOOD | {"query": {"video": {"frames": ["i1"], "fps": 0}}}, r"query.video.fps is 0, want frames a second"),
        (GOOD | {"positives": [{"video": ["no"]}]}, "positives.video.frames names 'no'"),
    ],
)
def test_each_fault_names_shard_key_and_field(tables, row, message):
    with pytest.raises(SampleError, match=message) as caught:
        decode(row, tables)
    assert str(caught.value).startswith("train-000000.tar:0007")


@pytest.mark.parametrize(
    "field, row",
    [
        ("query.text", GOOD | {"query": {"images": ["q.0.png"]}}),
        ("query.images", GOOD),
        ("query.instruction", GOOD),
        ("positives.id", GOOD),
        ("positives.images", GOOD),
        ("negatives.text", GOOD | {"negatives": ["d2"]}),
    ],
)
def test_a_missing_required_field_names_the_spec_that_wants_it(tables, field, row):
    message = rf"0007 has no {field}; toy declares it required \(specs/toy.yaml\)"
    with pytest.raises(SampleError, match=message):
        decode(row, tables, [field], q_0_png=PNG)
    assert decode(row, tables, ["positives.text"], q_0_png=PNG).positives[0].text == "p"


def test_half_a_sample_is_named(tables):
    with pytest.raises(SampleError, match=r"0007: no json member \(has: q.0.png\); half a sample"):
        Decoder(DataSpec("toy", "-"), *tables).parse(RawSample("a.tar:0007", {"q.0.png": PNG}))


def test_a_reference_without_its_table_says_so():
    with pytest.raises(SampleError, match=r"specs/toy\.yaml has no documents table"):
        decode(GOOD | {"positives": ["d1"]})
    with pytest.raises(SampleError, match=r"specs/toy\.yaml has no images table"):
        decode({"query": {"images": ["i1"]}, "positives": ["d1"]})


def test_an_image_is_not_decoded_before_somebody_looks():
    example = decode({"query": {"images": ["q.0.png"]}, "positives": [{"text": "p"}]}, q_0_png=b"no image")
    with pytest.raises(SampleError, match=r"train-000000\.tar:0007\.q\.0\.png: 8 bytes do not decode as an image"):
        example.query.images[0].decode()
    with pytest.raises(SampleError, match=r"0007\.q\.0\.png: the image is empty"):
        decode({"query": {"images": ["q.0.png"]}, "positives": [{"text": "p"}]}, q_0_png=b"")


def test_a_column_of_frames_makes_a_document_of_the_table_a_video(tmp_path):
    rows = [{"id": "film", "text": "seen", "frames": [PNG, PNG + b"1"]}, {"id": "page", "image": PNG, "frames": None}]
    write_table(rows, tmp_path / "documents.arrow")
    tables = (Table(tmp_path / "documents.arrow"), None)
    film, page = decode({"query": {"text": "a"}, "positives": ["film", "page"]}, tables).positives
    assert [frame.data for frame in film.video.frames] == [PNG, PNG + b"1"]
    assert (film.text, film.images, page.video) == ("seen", (), None)
