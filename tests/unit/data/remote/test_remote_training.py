"""Training on shards that lie elsewhere: the same batches, no sample lost to the network."""

import json
import pickle

import numpy as np
import pytest

from mmret.data import DataSpec, Manifest, Sample, write_shards
from mmret.data.index import index_path
from mmret.data.kept import write_kept
from mmret.data.reader import ShardReader
from mmret.data.remote import RemoteDamaged, RemoteMissing
from mmret.errors import ConfigError, RemoteError
from tests.builders import build_toy_source
from tests.unit.data.test_dataset import module
from tests.unit.data.test_module import load

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def local_and_remote(server, tmp_path, remote="cache"):
    """Specs of the toy source as it lies on disk, and as the server has it."""
    local = build_toy_source(server.folder, num=60)
    manifest = Manifest.load(server.folder / "train.manifest.json")
    reader = ShardReader(manifest)
    rows = [reader.read(i) for i in range(len(manifest))]
    for number in range(len(manifest.shards)):
        manifest.shard_path(number).unlink()
        index_path(manifest.shard_path(number)).unlink()
    samples = (Sample(row.name.rpartition(":")[2], json.loads(row.members.pop("json")), row.members) for row in rows)
    write_shards(samples, server.folder, "train", max_samples=6)
    text = local.read_text().replace("train.manifest.json", f"{server.url}/train.manifest.json")
    text = text.replace("passages.arrow", f"{server.url}/passages.arrow")
    spec = tmp_path / "remote.yaml"
    spec.write_text(f"{text}\nremote: {remote}\n")
    return local, spec


@pytest.mark.parametrize("remote", ["cache", "ranges"])
@pytest.mark.parametrize("workers, method", [(0, None), (2, "fork")])
def test_the_batches_are_those_from_disk(server, tmp_path, remote, workers, method):
    local, spec = local_and_remote(server, tmp_path, remote)
    data = module({spec: 1}, documents_per_query=3, num_workers=workers)
    data.multiprocessing_context = method
    assert load(data) == load(module({local: 1}, documents_per_query=3))
    tars = server.names(".tar")
    assert remote == "ranges" or sorted(tars) == sorted(set(tars))


def test_workers_that_are_spawned_read_the_same(server, tmp_path):
    local, spec = local_and_remote(server, tmp_path)
    data = module({spec: 1}, documents_per_query=3, num_workers=1)
    data.multiprocessing_context = "spawn"
    assert load(data) == load(module({local: 1}, documents_per_query=3))


def test_nothing_is_fetched_before_it_is_read(server, tmp_path):
    _, spec = local_and_remote(server, tmp_path)
    data = module({spec: 1}, batch_size=6, shuffle_window=0)
    data.dataset()
    assert not server.names(".tar") and not server.names("index.arrow")
    data.start = 8
    next(iter(data.train_dataloader()))
    assert server.names(".tar") == ["train-000008.tar"] and server.names("index.arrow") == ["train-000008.index.arrow"]


def test_ranges_ask_for_the_samples_alone(server, tmp_path):
    _, spec = local_and_remote(server, tmp_path, "ranges")
    source = DataSpec.load(spec).open()
    reader = ShardReader(Manifest.load(server.folder / "train.manifest.json"))
    for index in (7, 33):
        source.parse(index)
        name, start, size = server.asked[-1]
        _, members = reader._shard(index // 6)
        places = members.members(index % 6)
        assert (name, start) == (f"train-{index // 6:06d}.tar", places[0][1])
        assert size == places[-1][1] + places[-1][2] - places[0][1]
    assert len(server.names(".tar")) == 2


def test_an_outage_stops_the_run_and_replaces_no_sample(server, tmp_path):
    _, spec = local_and_remote(server, tmp_path)
    for _ in ("cache", "ranges"):
        for workers in (0, 1):
            data = module({spec: 1}, batch_size=6, shuffle_window=0, num_workers=workers, max_bad_fraction=1.0)
            data.multiprocessing_context = "fork" if workers else None
            server.faults["train-000001.tar"] = [503] * 5
            with pytest.raises(RemoteError, match=r"train-000001\.tar: cannot be fetched: HTTP 503"):
                load(data)
            assert data.bad == 0
        spec.write_text(spec.read_text().replace("remote: cache", "remote: ranges"))


def test_a_missing_shard_stops_the_run(server, tmp_path):
    _, spec = local_and_remote(server, tmp_path)
    (server.folder / "train-000002.tar").unlink()
    with pytest.raises(RemoteMissing, match=r"train-000002\.tar: HTTP 404 Not Found"):
        load(module({spec: 1}, batch_size=6, shuffle_window=0, max_bad_fraction=1.0))


def test_without_room_samples_are_read_by_ranges(server, tmp_path, monkeypatch, caplog):
    local, spec = local_and_remote(server, tmp_path)
    size = (server.folder / "passages.arrow").stat().st_size + 20_000
    monkeypatch.setenv("MMRET_DATA_CACHE_GB", str(size / 1e9))
    manifest = Manifest.load(server.folder / "train.manifest.json")
    assert sum(shard.bytes for shard in manifest.shards) > 20_000
    assert load(module({spec: 1}, documents_per_query=3)) == load(module({local: 1}, documents_per_query=3))
    monkeypatch.setenv("MMRET_DATA_CACHE_GB", str((size - 10_000) / 1e9))
    assert load(module({spec: 1}, documents_per_query=3)) == load(module({local: 1}, documents_per_query=3))
    assert "is read by ranges, which is slower" in caplog.text


def test_shards_may_be_urls_and_commands(server, tmp_path):
    samples = [Sample(f"{i:02d}", {"query": {"text": str(i)}}) for i in range(9)]
    manifest = write_shards(samples, server.folder, max_samples=3)
    mixed = tmp_path / "mixed"
    write_shards(samples[:3], mixed, max_samples=3)
    table = json.loads(manifest.path.read_text())
    table["shards"][1]["name"] = f"{server.url}/train-000001.tar"
    table["shards"][2]["name"] = f"pipe:cat {server.folder}/train-000002.tar"
    (mixed / "train.manifest.json").write_text(json.dumps(table))
    reader = pickle.loads(pickle.dumps(ShardReader(Manifest.load(mixed / "train.manifest.json"))))
    reader.check()
    found = [json.loads(reader.read(i).members["json"])["query"]["text"] for i in range(9)]
    assert found == [str(i) for i in range(9)]


def test_compressed_shards_are_read(server):
    samples = [Sample(f"{i:02d}", {"n": i}) for i in range(6)]
    write_shards(samples, server.folder, max_samples=3, compress=True)
    for ranges in (False, True):
        reader = ShardReader(Manifest.load(f"{server.url}/train.manifest.json"), ranges)
        assert [json.loads(reader.read(i).members["json"])["n"] for i in range(6)] == list(range(6))
    assert server.names(".tar.gz") == ["train-000000.tar.gz", "train-000001.tar.gz"]


def test_without_an_index_it_is_made_from_the_copy(server):
    manifest = write_shards([Sample("a", {"n": 1})], server.folder)
    index_path(manifest.shard_path(0)).unlink()
    for ranges in (True, False):
        reader = ShardReader(Manifest.load(f"{server.url}/train.manifest.json"), ranges)
        assert reader.read(0).members == {"json": b'{"n":1}'}


def test_an_index_of_another_version_stops_the_run(server):
    write_shards([Sample("a", {"n": 1})], server.folder, "other")
    manifest = write_shards([Sample("a", {"n": 1}), Sample("b", {})], server.folder)
    index_path(manifest.shard_path(0)).write_bytes((server.folder / "other-000000.index.arrow").read_bytes())
    reader = ShardReader(Manifest.load(f"{server.url}/train.manifest.json"))
    with pytest.raises(RemoteDamaged, match=r"000000\.index\.arrow: of 1 samples in .*the manifest says 2 in .*upload"):
        reader.read(0)


def test_a_server_without_ranges_is_named(server):
    server.ranges = False
    write_shards([Sample("a", {"n": 1})], server.folder)
    manifest = Manifest.load(f"{server.url}/train.manifest.json")
    with pytest.raises(RemoteError, match=r"does not answer range requests; set `remote: cache`"):
        ShardReader(manifest, ranges=True).read(0)
    assert ShardReader(manifest).read(0).members == {"json": b'{"n":1}'}


def test_a_shard_shorter_than_its_index_is_no_bad_sample(server):
    manifest = write_shards([Sample("a", {"n": 1})], server.folder)
    path = manifest.shard_path(0)
    data = path.read_bytes()
    for size, text in ((515, "515 bytes"), (300, "HTTP 416 .*: fewer bytes")):
        path.write_bytes(data[:size])
        reader = ShardReader(Manifest.load(f"{server.url}/train.manifest.json"), ranges=True)
        with pytest.raises(RemoteDamaged, match=rf"{text}, the manifest says 10,240; .*upload it again"):
            reader.read(0)


def test_a_curated_manifest_brings_its_list_of_kept_samples(server):
    manifest = write_shards([Sample(f"{i:02d}", {"n": i}) for i in range(6)], server.folder, max_samples=3)
    write_kept(server.folder / "few.keep.npy", [np.array([1]), np.array([0, 2])])
    table = json.loads(manifest.path.read_text())
    table["keep"] = "few.keep.npy"
    for entry, samples in zip(table["shards"], (1, 2)):
        entry |= {"samples": samples, "stored": 3}
    (server.folder / "few.manifest.json").write_text(json.dumps(table))
    reader = pickle.loads(pickle.dumps(ShardReader(Manifest.load(f"{server.url}/few.manifest.json"))))
    assert [json.loads(reader.read(i).members["json"])["n"] for i in range(3)] == [1, 3, 5]


def test_paths_of_remote_shards_are_refused(server):
    write_shards([Sample("a", {})], server.folder)
    with pytest.raises(ConfigError, match=r"train-000000\.tar lies elsewhere; this needs shards on disk"):
        Manifest.load(f"{server.url}/train.manifest.json").shard_path(0)


def test_the_way_of_reading_is_one_of_two(tmp_path):
    (tmp_path / "x.yaml").write_text("name: x\nshards: s3://b/m.json\nremote: range\n")
    with pytest.raises(ConfigError, match=r"remote: 'range' is none; known: cache, ranges\. Did you mean ranges"):
        DataSpec.load(tmp_path / "x.yaml")
