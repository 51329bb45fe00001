import json

import pytest

from mmret.data import Manifest, Sample, index_shard
from mmret.data.care import Collection, check
from mmret.data.index import index_path
from mmret.data.shards import ShardEntry, file_sha256
from tests.unit.data.care.sets import SPEC, healthy, members, pairs, picture, samples, write_tar

FIRST = "train-000000.tar"


def faults(target, workers=1):
    """(kind, shard, key) of each fault."""
    report = check(Collection.find(target), workers)
    assert sum(report.counts.values()) == len(report.faults)
    assert report.healthy == (not report.faults)
    assert all(fault.text.startswith(fault.shard) for fault in report.faults)
    return [(fault.kind, fault.shard, fault.key) for fault in report.faults]


def text_of(target, kind):
    (text,) = [fault.text for fault in check(Collection.find(target), 1).faults if fault.kind == kind]
    return text


def rewrite(spec, change, shard=FIRST, index=True):
    """The first shard with other members; manifest and index are made anew, so that only its content is wrong."""
    tar = spec.parent / shard
    write_tar(tar, change(members(tar)))
    if index:
        index_path(tar).unlink()
        index_shard(tar)
    manifest = Manifest.load(spec.parent / "train.manifest.json")
    entries = [
        ShardEntry(one.name, one.samples, tar.stat().st_size, file_sha256(tar)) if one.name == shard else one
        for one in manifest.shards
    ]
    Manifest(manifest.path, tuple(entries)).save()


def replace(name, data):
    return lambda content: [(n, data if n == name else d) for n, d in content]


def drop(name):
    return lambda content: [(n, d) for n, d in content if n != name]


@pytest.mark.parametrize("settings", [{}, {"compress": True}])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_healthy_collection_has_no_faults(settings, workers, tmp_path):
    spec = healthy(tmp_path, **settings)
    report = check(Collection.find(spec), workers)
    assert report.healthy
    assert (report.shards, report.samples, report.pictures) == (2, 6, 7)  # six of queries, one of the table
    assert faults(tmp_path / "train.manifest.json") == []


# A sample is two members of a header and a block of data each: 2048 bytes; the third ends at 6144, then come zeros.
@pytest.mark.parametrize("length, key", [(6200, "0002"), (6100, "0002"), (5632, "0002"), (3000, "0001"), (100, "")])
def test_a_truncated_tar_says_where_it_ends(length, key, tmp_path):
    spec = healthy(tmp_path)
    tar = tmp_path / FIRST
    tar.write_bytes(tar.read_bytes()[:length])
    found = faults(spec)
    assert {kind for kind, _, _ in found} == {"size", "truncated", "count", "index"}
    assert ("truncated", FIRST, key) in found
    assert f"{length:,} bytes, train.manifest.json says 10,240" in text_of(spec, "size")


def test_a_truncated_gzip_tar_is_found(tmp_path):
    spec = healthy(tmp_path, compress=True)
    tar = tmp_path / f"{FIRST}.gz"
    tar.write_bytes(tar.read_bytes()[:-30])
    assert {"size", "truncated"} <= {kind for kind, _, _ in faults(spec)}


def test_a_damaged_header_in_the_middle_is_found(tmp_path):
    """tarfile takes what is no header for the end of the tar."""
    spec = healthy(tmp_path)
    tar = tmp_path / FIRST
    data = bytearray(tar.read_bytes())
    at = data.index(b"0001.json")
    data[at : at + 512] = b"\xff" * 512
    tar.write_bytes(data)
    found = faults(spec)
    assert ("truncated", FIRST, "0000") in found
    assert ("checksum", FIRST, "") in found


def test_changed_bytes_of_the_right_length_are_found_by_the_checksum(tmp_path):
    spec = healthy(tmp_path)
    tar = tmp_path / FIRST
    tar.write_bytes(tar.read_bytes().replace(b"question 1", b"question 9"))
    assert faults(spec) == [("checksum", FIRST, "")]


def test_a_missing_shard_is_found(tmp_path):
    spec = healthy(tmp_path)
    (tmp_path / FIRST).unlink()
    assert faults(spec) == [("missing shard", FIRST, "")]


def test_a_key_that_occurs_twice_is_found_in_one_shard_and_between_shards(tmp_path):
    spec = healthy(tmp_path)
    rewrite(spec, lambda content: [*content, *content[:2]], index=False)
    assert ("duplicate key", FIRST, "0000") in faults(spec)

    spec = healthy(tmp_path / "between")
    rewrite(spec, lambda content: [(name.replace("0003", "0001"), data) for name, data in content], "train-000001.tar")
    assert faults(spec) == [("duplicate key", "train-000001.tar", "0001")]
    assert text_of(spec, "duplicate key") == (
        "train-000001.tar:0001: train-000000.tar has this key, too; each sample has its own"
    )


def test_the_same_member_twice_is_a_duplicate_key(tmp_path):
    spec = healthy(tmp_path)
    rewrite(spec, lambda content: [content[0], *content], index=False)
    assert ("duplicate key", FIRST, "0000") in faults(spec)


def test_a_dotted_key_is_found(tmp_path):
    spec = healthy(tmp_path)
    rewrite(spec, lambda content: [(name.replace("0001.", "img.0001."), data) for name, data in content])
    assert faults(spec) == [("dotted key", FIRST, "img")]
    assert "names are cut at the first one" in text_of(spec, "dotted key")


def test_half_a_sample_is_found(tmp_path):
    spec = healthy(tmp_path)
    rewrite(spec, drop("0001.json"))
    assert faults(spec) == [("half sample", FIRST, "0001")]
    spec = healthy(tmp_path / "picture")
    rewrite(spec, drop("0001.q.0.png"))
    assert faults(spec) == [("unknown id", FIRST, "0001")]
    assert "no member of this sample" in text_of(spec, "unknown id")


@pytest.mark.parametrize("data", [b"no picture", b"", picture()[:45]])
def test_a_picture_that_does_not_decode_is_found(data, tmp_path):
    spec = healthy(tmp_path)
    rewrite(spec, replace("0002.q.0.png", data))
    ((kind, shard, key),) = faults(spec)
    assert (shard, key) == (FIRST, "0002")
    assert kind == ("picture" if data else "row")  # nothing at all is seen when its row is read


def test_a_picture_of_the_table_that_does_not_decode_is_found_once(tmp_path):
    from mmret.data import write_table

    spec = healthy(tmp_path, samples(positives=["d0"]))
    write_table([{"id": "d0", "image": b"nothing"}, {"id": "d1", "text": None}], tmp_path / "passages.arrow")
    assert faults(spec) == [("picture", "passages.arrow", "d0"), ("row", "passages.arrow", "d1")]


def test_a_required_field_that_is_missing_is_found(tmp_path):
    rows = samples()
    rows[1] = Sample("0001", {"query": {"text": "no picture"}, "positives": ["d1"]})
    assert faults(healthy(tmp_path, rows)) == [("missing field", FIRST, "0001")]


def test_an_id_that_the_table_lacks_is_found_for_each_reference(tmp_path):
    rows = samples(negatives=["d1", "d7", "d8"])
    spec = healthy(tmp_path, rows[:1])
    assert faults(spec) == [("unknown id", FIRST, "0000")] * 2
    assert faults(tmp_path / "train.manifest.json") == []  # a manifest alone does not know the table


@pytest.mark.parametrize("row", [b"{", b"[]", b'{"query": 3}', b'{"query": {"text": ""}, "positives": ["d0"]}'])
def test_a_row_that_cannot_be_read_is_found(row, tmp_path):
    spec = healthy(tmp_path)
    rewrite(spec, replace("0001.json", row))
    assert faults(spec) == [("row", FIRST, "0001")]


def test_a_label_that_is_no_class_is_found(tmp_path):
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    rows = samples(2)
    rows += [Sample("0002", {**samples(1)[0].json, "label": "cow"}, {"q.0.png": picture()})]
    assert faults(healthy(tmp_path, rows, SPEC + "classes: classes.txt\n")) == [("label", FIRST, "0002")]


def test_counts_that_do_not_match_are_found(tmp_path):
    spec = healthy(tmp_path)
    manifest = json.loads((tmp_path / "train.manifest.json").read_text())
    manifest["shards"][1]["samples"] = 5
    (tmp_path / "train.manifest.json").write_text(json.dumps(manifest))
    assert faults(spec) == [("count", "train-000001.tar", "")]
    assert "3 whole samples, train.manifest.json says 5" in text_of(spec, "count")


def test_an_index_that_is_missing_or_of_another_tar_is_found(tmp_path):
    spec = healthy(tmp_path)
    index_path(tmp_path / FIRST).unlink()
    assert faults(spec) == [("index", FIRST, "")]
    spec = healthy(tmp_path / "other")
    index_path(spec.parent / FIRST).write_bytes(index_path(spec.parent / "train-000001.tar").read_bytes())
    assert faults(spec) == [("index", FIRST, "")]
    assert "has sample 0 as '0003', the tar as '0000'" in text_of(spec, "index")


def test_pairs_are_checked_by_their_own_layout(tmp_path):
    from mmret.data.care import index_tars

    tar = pairs(tmp_path)
    content = members(tar)
    write_tar(tar, [one for one in content if one[0] not in ("000000001.txt", "000000001.json", "000000002.jpg")])
    found = index_tars([tmp_path], "toy")
    assert found.layout == "pairs"
    expected = [("half sample", "00000.tar", "000000001"), ("half sample", "00000.tar", "000000002")]
    assert faults(found.spec) == faults(found.manifest.path) == expected
