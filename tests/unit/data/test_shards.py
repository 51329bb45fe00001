import gzip
import json
import tarfile
import warnings

import pytest

from mmret.data import Manifest, Sample, index_shard, write_shards
from mmret.data.index import ShardIndex, index_path
from mmret.data.reader import ShardReader
from mmret.errors import ConfigError, SampleError


def rows(count, **members):
    return [
        Sample(
            f"{i:04d}", {"query": {"text": f"é {i}"}, "positives": ["a"]}, {"q.0.png": b"x" * i, "p.0.jpg": b"y" * 700}
        )
        for i in range(count)
    ]


def read_all(manifest):
    reader = ShardReader(manifest)
    return [reader.read(i) for i in range(len(reader))]


@pytest.mark.parametrize("compress", [False, True])
def test_samples_come_back_as_they_went_in(tmp_path, compress):
    manifest = write_shards(rows(25), tmp_path, max_samples=10, compress=compress)
    assert [shard.samples for shard in manifest.shards] == [10, 10, 5]
    assert Manifest.load(tmp_path / "train.manifest.json") == manifest
    for sample, raw in zip(rows(25), read_all(manifest)):
        assert raw.name.endswith(f":{sample.key}")
        assert json.loads(raw.members["json"]) == sample.json
        assert {suffix: data for suffix, data in raw.members.items() if suffix != "json"} == sample.members


@pytest.mark.parametrize("compress", [False, True])
def test_webdataset_reads_our_tars_and_gets_the_same_samples(tmp_path, compress):
    manifest = write_shards(rows(25), tmp_path, max_samples=10, compress=compress)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import webdataset

        shards = [str(manifest.shard_path(i)) for i in range(3)]
        theirs = list(webdataset.WebDataset(shards, shardshuffle=False))
    ours = read_all(manifest)
    assert len(theirs) == len(ours) == 25
    for their, our in zip(theirs, ours):
        assert our.name.endswith(f":{their['__key__']}")
        assert {k: v for k, v in their.items() if not k.startswith("__")} == our.members


@pytest.mark.parametrize("compress", [False, True])
def test_equal_samples_give_equal_bytes(tmp_path, compress):
    for folder in ("a", "b"):
        write_shards(rows(7), tmp_path / folder, compress=compress)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(names) == 3
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_shards_close_at_the_size_limit(tmp_path):
    samples = [Sample(str(i), {}, {"bin": bytes(100_000)}) for i in range(6)]
    manifest = write_shards(samples, tmp_path, max_mb=0.25)
    assert [shard.samples for shard in manifest.shards] == [3, 3]


@pytest.mark.parametrize("key", ["a.b", "a/b", "a b", "", "a\n"])
def test_a_key_that_a_tar_reader_would_cut_is_refused(tmp_path, key):
    with pytest.raises(SampleError, match="no dot, slash"):
        write_shards([Sample(key, {})], tmp_path)


def test_a_duplicate_key_is_refused_and_no_manifest_is_left(tmp_path):
    write_shards(rows(3), tmp_path)
    with pytest.raises(SampleError, match="'0001' occurs twice"):
        write_shards([*rows(3), rows(2)[1]], tmp_path)
    assert not (tmp_path / "train.manifest.json").exists()


def test_a_json_member_or_value_that_json_cannot_hold_is_refused(tmp_path):
    with pytest.raises(SampleError, match="'json'"):
        write_shards([Sample("a", {}, {"json": b"{}"})], tmp_path)
    with pytest.raises(SampleError, match=r"train-000000.tar:a: its json cannot be written"):
        write_shards([Sample("a", {"x": float("nan")})], tmp_path)
    with pytest.raises(SampleError, match="no samples"):
        write_shards([], tmp_path)


@pytest.mark.parametrize("compress", [False, True])
def test_indexing_a_foreign_tar_gives_the_index_that_the_writer_gives(tmp_path, compress):
    manifest = write_shards(rows(12), tmp_path, compress=compress)
    path = index_path(manifest.shard_path(0))
    ours = path.read_bytes()
    path.unlink()
    assert index_shard(manifest.shard_path(0)) == path
    assert path.read_bytes() == ours


def tar_of(path, names, data=b"z" * 600):
    import io

    with tarfile.open(path, "w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_an_image_folder_tar_is_indexed_by_first_dot_below_its_folders(tmp_path):
    shard = tar_of(tmp_path / "x.tar", ["v1.0/0001.jpg", "v1.0/0001.seg.png", "v1.0/0002.jpg"])
    index = ShardIndex(index_shard(shard))
    assert [index.key(i) for i in range(2)] == ["v1.0/0001", "v1.0/0002"]
    assert [[name for name, _, _ in index.members(i)] for i in range(2)] == [["jpg", "seg.png"], ["jpg"]]


@pytest.mark.parametrize(
    "names, message",
    [
        (["a.json", "b.json", "a.jpg"], "x.tar:a: the key occurs twice"),
        (["a.json", "a.json"], "x.tar:a: two members end in .json"),
        (["img.v1.jpg", "img.v2.jpg", "b.jpg", "img.v3.jpg"], "x.tar:img: the key occurs twice, or holds a dot"),
    ],
)
def test_duplicate_and_dotted_keys_of_a_foreign_tar_are_named(tmp_path, names, message):
    with pytest.raises(SampleError, match=message):
        index_shard(tar_of(tmp_path / "x.tar", names))


def test_a_tar_cut_inside_a_member_or_between_members_is_named(tmp_path):
    shard = tar_of(tmp_path / "x.tar", ["a.json", "a.jpg", "b.json", "b.jpg"])
    whole = shard.read_bytes()
    block = 512 + 1024  # header and padded data of each member
    for length in (3 * block + 512 + 100, 3 * block, 3 * block + 100):
        shard.write_bytes(whole[:length])
        with pytest.raises(SampleError, match=r"x\.tar: .*key 'b'"):
            index_shard(shard)


def test_a_cut_gzip_tar_is_named(tmp_path):
    shard = tmp_path / "x.tar.gz"
    shard.write_bytes(gzip.compress(tar_of(tmp_path / "x.tar", ["a.json", "b.json"]).read_bytes())[:-20])
    with pytest.raises(SampleError, match=r"x\.tar\.gz: not a whole tar"):
        index_shard(shard)


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "not a manifest"),
        ('{"version": 2, "shards": []}', "version 2"),
        ('{"version": 1, "shards": []}', "no samples"),
        ('{"version": 1, "shards": [{"name": "a.tar"}]}', "'samples'"),
        ("[]", "not a manifest"),
    ],
)
def test_a_broken_manifest_is_named(tmp_path, text, message):
    path = tmp_path / "x.manifest.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        Manifest.load(path)
    assert str(path) in str(caught.value)


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no such manifest"):
        Manifest.load(tmp_path / "x.manifest.json")
