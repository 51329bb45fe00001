import os
import pickle
from io import FileIO

import pytest

from mmret.data import Sample, write_shards
from mmret.data.index import index_path
from mmret.data.inflate import seekable, shard_cache
from mmret.data.reader import ShardReader
from mmret.data.remote.shard import FileBytes
from mmret.errors import SampleError


@pytest.fixture
def manifest(tmp_path):
    samples = [Sample(f"{i:02d}", {"n": i}, {"bin": bytes([i]) * 900}) for i in range(10)]
    return write_shards(samples, tmp_path, max_samples=4)


def number(raw):
    return raw.members["bin"][0]


def test_any_sample_is_reached_in_any_order(manifest):
    reader = ShardReader(manifest)
    reader.check()
    assert [number(reader.read(i)) for i in (9, 0, 4, 3, 9)] == [9, 0, 4, 3, 9]
    assert reader.read(4).name == "train-000001.tar:04"
    with pytest.raises(IndexError):
        reader.read(10)


def test_a_reader_with_open_files_survives_pickling_and_forking(manifest):
    reader = ShardReader(manifest)
    reader.read(0)
    assert number(pickle.loads(pickle.dumps(reader)).read(7)) == 7
    child = os.fork()
    if child == 0:
        os._exit(0 if [number(reader.read(i)) for i in range(10)] == list(range(10)) else 1)
    assert [number(reader.read(i)) for i in range(10)] == list(range(10))
    assert os.waitpid(child, 0)[1] == 0


def test_more_shards_than_may_stay_open_are_read(tmp_path):
    manifest = write_shards([Sample(f"{i:03d}", {}, {"bin": bytes([i])}) for i in range(100)], tmp_path, max_samples=1)
    reader = ShardReader(manifest)
    assert [number(reader.read(i)) for i in [*range(100), *range(100)]] == [*range(100), *range(100)]
    assert len(reader._open) == 64


def test_a_missing_shard_is_named_before_anything_is_read(manifest):
    manifest.shard_path(2).unlink()
    with pytest.raises(SampleError, match=r"train-000002\.tar: the shard is missing .*train\.manifest\.json lists it"):
        ShardReader(manifest).check()


def test_a_truncated_shard_is_named_before_anything_is_read(manifest):
    path = manifest.shard_path(1)
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(SampleError, match=r"train-000001\.tar: .* bytes, .* says .*truncated"):
        ShardReader(manifest).check()


def test_a_shard_that_shrinks_later_names_shard_and_key(manifest):
    reader = ShardReader(manifest)
    reader.read(0)
    os.truncate(manifest.shard_path(0), 3000)
    with pytest.raises(SampleError, match=r"train-000000\.tar:03: the shard ends before"):
        reader.read(3)


def test_a_manifest_with_another_count_than_the_index_is_named(manifest):
    text = manifest.path.read_text().replace('"samples": 4', '"samples": 5')
    manifest.path.write_text(text)
    with pytest.raises(SampleError, match=r"index has 4 samples, train\.manifest\.json says 5"):
        ShardReader(type(manifest).load(manifest.path)).check()


def test_a_missing_or_foreign_index_says_how_to_make_one(manifest):
    path = index_path(manifest.shard_path(0))
    other = index_path(manifest.shard_path(2)).read_bytes()
    path.unlink()
    with pytest.raises(SampleError, match=r"no member index; mmret\.data.index_shard"):
        ShardReader(manifest).check()
    path.write_bytes(b"no arrow")
    with pytest.raises(SampleError, match="not a member index"):
        ShardReader(manifest).check()
    path.write_bytes(other)
    with pytest.raises(SampleError, match="samples"):
        ShardReader(manifest).check()


def test_a_compressed_shard_is_inflated_once(tmp_path):
    manifest = write_shards([Sample("a", {}, {"bin": b"1"})], tmp_path, "packed", compress=True)
    first = seekable(manifest.shard_path(0))
    assert first.parent == shard_cache()
    stamp = first.stat().st_mtime_ns
    assert seekable(manifest.shard_path(0)) == first and first.stat().st_mtime_ns == stamp
    assert not list(shard_cache().glob("*.part"))


def test_a_compressed_shard_with_damage_inside_is_named_once_and_again(tmp_path):
    manifest = write_shards([Sample(c, {}, {"bin": os.urandom(4000)}) for c in "ab"], tmp_path, "packed", compress=True)
    path = manifest.shard_path(0)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    reader = ShardReader(manifest)
    reader.check()
    for sample in (0, 1):
        with pytest.raises(SampleError, match=r"packed-000000\.tar\.gz: the shard does not inflate"):
            reader.read(sample)


@pytest.fixture
def large(tmp_path):
    return write_shards([Sample(f"{i}", {"n": i}, {"bin": bytes([i]) * 50_000}) for i in range(4)], tmp_path)


def test_large_members_of_a_run_lie_where_the_shard_is_and_hold_its_bytes(large):
    reader = ShardReader(large)
    members = [found["bin"] for _, found in reader.read_all([3, 1], views=True)]
    assert all(isinstance(member, memoryview) and member.readonly for member in members)
    assert [bytes(member) for member in members] == [reader.read(i).members["bin"] for i in (3, 1)]
    assert isinstance(reader.read(3).members["bin"], bytes)


def test_a_shard_that_shrank_since_it_was_opened_is_a_broken_sample_not_a_crash(large):
    reader = ShardReader(large)
    list(reader.read_all([0], views=True))
    os.truncate(large.shard_path(0), large.shards[0].bytes // 2)
    with pytest.raises(SampleError, match=r":3: the shard ends before this sample does"):
        list(reader.read_all([3], views=True))


def test_a_shard_emptied_before_its_first_view_is_a_broken_sample(large):
    reader = ShardReader(large)
    reader.name(0)
    os.truncate(large.shard_path(0), 0)
    with pytest.raises(SampleError, match=r":0: the shard ends before this sample does"):
        list(reader.read_all([0], views=True))


@pytest.mark.parametrize("how", ["read", "view"])
def test_a_closed_file_is_not_read_by_its_number(tmp_path, how):
    (tmp_path / "one").write_bytes(b"one")
    (tmp_path / "two").write_bytes(b"two")
    file = FileBytes(FileIO(tmp_path / "one"))
    file.close()
    with FileIO(tmp_path / "two"), pytest.raises(ValueError, match="closed file"):  # gets the same number
        getattr(file, how)(0, 3)
