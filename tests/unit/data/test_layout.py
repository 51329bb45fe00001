import json

import pytest

from mmret.data import DataSpec
from mmret.data.layout import DottedKey, HalfSample, captions, pair_row
from mmret.data.reader import RawSample
from mmret.errors import ConfigError, SampleError


def row(**members):
    return pair_row(RawSample("x.tar:1", {name.replace("_", "."): data for name, data in members.items()}))


def test_a_picture_asks_and_its_captions_answer():
    facts = json.dumps({"caption": "a cat", "url": "u", "query": "not ours"}).encode()
    assert row(jpg=b"x", json=facts, txt=b"a cat from the text") == {
        "query": {"images": ["jpg"]}, "positives": [{"text": "a cat"}], "negatives": [], "caption": "a cat", "url": "u"
    }  # fmt: skip


def test_the_text_is_the_caption_where_the_facts_have_none():
    assert row(webp=b"x", txt=b" a dog\n", json=b'{"caption": null}')["positives"] == [{"text": "a dog"}]
    assert row(png=b"x", txt=b"a dog")["query"] == {"images": ["png"]}


@pytest.mark.parametrize(
    "facts, text, expected",
    [
        ({"captions": ["a", "b", "a", " "]}, "c", ["a", "b"]),
        ({"caption": "a"}, "c", ["a"]),
        ({"caption": "  "}, "c", ["c"]),
        ({}, " \n", []),
        ({"captions": "one text"}, "c", ["c"]),
    ],
)
def test_each_caption_counts_once(facts, text, expected):
    assert captions(facts, text) == expected


@pytest.mark.parametrize("data, label", [(b"7\n", 7), (b"tabby cat", "tabby cat")])
def test_a_class_member_is_a_label(data, label):
    assert row(jpg=b"x", cls=data)["label"] == label


def test_what_is_missing_is_said():
    with pytest.raises(HalfSample, match=r"x\.tar:1: no picture member \(has: txt\); half a sample"):
        row(txt=b"a")
    with pytest.raises(HalfSample, match="no caption member"):
        row(jpg=b"x", txt=b" ")
    with pytest.raises(DottedKey, match=r"no picture member .* the key holds a dot"):
        row(v2_jpg=b"x", v2_txt=b"a")
    with pytest.raises(SampleError, match=r"x\.tar:1\.txt: no UTF-8 text"):
        row(jpg=b"x", txt=b"\xff\xfe")
    with pytest.raises(SampleError, match="its json does not parse"):
        row(jpg=b"x", json=b"{")


def test_an_unknown_layout_is_refused():
    with pytest.raises(ConfigError, match=r"layout: 'pair' is none; known: samples, pairs\. Did you mean pairs"):
        DataSpec(name="x", shards="y", layout="pair")
