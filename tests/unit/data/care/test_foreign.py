import os

import pytest
import yaml

from mmret.data import DataSpec, Manifest, write_shards
from mmret.data.care import index_tars
from mmret.data.index import index_path
from mmret.errors import ConfigError, SampleError
from tests.unit.data.care.sets import members, pairs, samples, write_tar


def test_an_img2dataset_folder_opens_as_it_is(tmp_path):
    tars = [pairs(tmp_path / "cc3", shard=f"0000{n}") for n in range(3)]
    before = [tar.read_bytes() for tar in tars]
    found = index_tars([tmp_path / "cc3"])
    assert (found.manifest.path, found.spec) == (tmp_path / "cc3" / "cc3.manifest.json", tmp_path / "cc3" / "cc3.yaml")
    assert [tar.read_bytes() for tar in tars] == before

    source = DataSpec.load(found.spec).open()
    assert (source.name, len(source), source.shard_lengths) == ("cc3", 15, [5, 5, 5])
    example = source.example(6)
    assert example.key == "00001.tar:000010001"
    assert example.query.images[0].decode().size == (12, 8)
    assert [one.text for one in example.positives] == ["a picture of thing 1"]
    assert example.meta["url"] == "https://example.org"


def test_our_own_tars_without_manifest_are_recognised_by_their_json(tmp_path):
    written = write_shards(samples(), tmp_path, max_samples=3, compress=True)
    entries = written.shards
    written.path.unlink()
    found = index_tars([tmp_path], "again")
    assert found.layout == "samples"
    assert Manifest.load(found.manifest.path).shards == entries


def test_tars_in_several_folders_are_named_from_the_one_that_holds_them(tmp_path):
    one, two = pairs(tmp_path / "a" / "b", shard="00000"), pairs(tmp_path / "c", shard="00001")
    found = index_tars([one, tmp_path / "c"], "both")
    assert found.manifest.path == tmp_path / "both.manifest.json"
    assert [shard.name for shard in found.manifest.shards] == ["a/b/00000.tar", "c/00001.tar"]
    assert DataSpec.load(found.spec).open().example(5).key == "c/00001.tar:000010000"
    assert two.is_file()


def test_a_second_run_reads_only_headers_that_are_new_and_keeps_an_edited_spec(tmp_path):
    first = pairs(tmp_path / "cc3")
    index_tars([tmp_path / "cc3"])
    (tmp_path / "cc3" / "cc3.yaml").write_text((tmp_path / "cc3" / "cc3.yaml").read_text() + "license: CC-BY\n")
    stamp = index_path(first).stat().st_mtime_ns
    pairs(tmp_path / "cc3", shard="00001")
    found = index_tars([tmp_path / "cc3"])
    assert len(found.manifest) == 10
    assert index_path(first).stat().st_mtime_ns == stamp
    assert yaml.safe_load(found.spec.read_text())["license"] == "CC-BY"


def test_an_index_of_an_older_tar_is_made_anew(tmp_path):
    tar = pairs(tmp_path / "cc3")
    index_tars([tmp_path / "cc3"])
    write_tar(tar, [(name.replace("0000", "9999"), data) for name, data in members(tar)])
    assert DataSpec.load(index_tars([tmp_path / "cc3"]).spec).open().reader.read(0).name == "00000.tar:999999990"


def test_a_tar_of_the_same_size_and_an_older_date_is_indexed_anew(tmp_path):
    tar = pairs(tmp_path / "cc3")
    index_tars([tmp_path / "cc3"])
    size, there = tar.stat().st_size, members(tar)
    write_tar(tar, [*there[3:], *there[:3]])  # what was the first sample is the last
    os.utime(tar, (1, 1))
    source = DataSpec.load(index_tars([tmp_path / "cc3"]).spec).open()
    assert tar.stat().st_size == size
    assert [source.reader.name(n)[-1] for n in range(5)] == ["1", "2", "3", "4", "0"]
    (tmp_path / "cc3/cc3.manifest.json").write_text("{")
    assert len(index_tars([tmp_path / "cc3"]).manifest) == 5


def test_broken_tars_are_all_named_and_may_be_left_out(tmp_path):
    for n in range(3):
        pairs(tmp_path / "cc3", shard=f"0000{n}")
    cut, twice = tmp_path / "cc3" / "00000.tar", tmp_path / "cc3" / "00001.tar"
    cut.write_bytes(cut.read_bytes()[:5000])
    write_tar(twice, members(twice) * 2)
    with pytest.raises(SampleError) as error:
        index_tars([tmp_path / "cc3"])
    lines = str(error.value).splitlines()
    assert lines[0] == "2 of 3 tars cannot be indexed:"
    assert "00000.tar: " in lines[1]
    assert "the key occurs twice" in lines[2]
    assert "--skip-broken" in lines[3]
    found = index_tars([tmp_path / "cc3"], skip_broken=True)
    assert [shard.name for shard in found.manifest.shards] == ["00002.tar"]
    assert len(found.left_out) == 2


def test_an_empty_tar_is_left_out(tmp_path):
    pairs(tmp_path / "cc3")
    write_tar(tmp_path / "cc3" / "00001.tar", [])
    found = index_tars([tmp_path / "cc3"])
    assert found.left_out == ("00001.tar: no samples in it",)
    assert len(found.manifest) == 5


def test_what_is_no_tar_is_said(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"")
    for path, message in (("x.zip", "is no tar; want .tar"), ("y", "does not exist"), (".", "no tar there")):
        with pytest.raises(ConfigError, match=message):
            index_tars([tmp_path / path])
    pairs(tmp_path)
    with pytest.raises(ConfigError, match="it names files"):
        index_tars([tmp_path], "a/b")
