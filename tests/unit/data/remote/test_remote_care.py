"""Looking after collections that lie elsewhere."""

import json

import pytest

from mmret.cli.inventory import look_at
from mmret.cli.main import main
from mmret.data import Manifest, Sample, write_shards
from mmret.data.care import Collection, check, look, statistics
from mmret.errors import RemoteError


@pytest.fixture
def manifest(server):
    samples = [Sample(f"{i:02d}", {"query": {"text": f"text {i}"}, "n": "x" * 5000}) for i in range(60)]
    write_shards(samples, server.folder, max_samples=20)
    return f"{server.url}/train.manifest.json"


def test_a_whole_collection_is_clean(manifest):
    report = check(Collection.find(manifest), workers=1)
    assert report.healthy and report.samples == 60 and report.name == "train"


def test_faults_are_named_and_an_outage_is_none(server, manifest):
    (server.folder / "train-000001.tar").unlink()
    path = server.folder / "train-000002.tar"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    (server.folder / "train-000000.index.arrow").unlink()
    report = check(Collection.find(manifest), workers=1)
    assert {(fault.kind, fault.shard) for fault in report.faults} == {
        ("index", "train-000000.tar"),
        ("missing shard", "train-000001.tar"),
        ("checksum", "train-000002.tar"),
    }
    server.faults["train-000001.tar"] = [503] * 5
    with pytest.raises(RemoteError, match="HTTP 503"):
        check(Collection.find(manifest), workers=1)


def test_a_look_reads_no_more_than_it_shows(server, manifest):
    found = list(look(Collection.find(manifest), 3))
    assert [one.query.text for one in found if one.query] == ["text 0", "text 29", "text 59"]
    whole = sum(shard.bytes for shard in Manifest.load(server.folder / "train.manifest.json").shards)
    assert server.sent(".tar") < 5 * 5200 < whole / 10


def test_a_server_without_ranges_gives_the_shards_whole(server, manifest):
    server.ranges = False
    collection = Collection.find(manifest)
    assert [one.query.text for one in look(collection, 3) if one.query] == ["text 0", "text 29", "text 59"]
    assert check(collection, workers=1).healthy


def test_a_first_shard_that_is_missing_is_a_fault_as_any_other(server, manifest):
    for name in ("train-000000.tar", "train-000000.index.arrow"):
        (server.folder / name).unlink()
    report = check(Collection.find(manifest), workers=1)
    assert [(fault.kind, fault.shard) for fault in report.faults] == [("missing shard", "train-000000.tar")]
    assert report.samples == 40


def test_statistics_are_those_from_disk(server, manifest):
    there = statistics(Collection.find(manifest), workers=1).as_json()
    assert there == statistics(Collection.find(server.folder / "train.manifest.json"), workers=1).as_json()


def test_the_verbs_take_urls(manifest, capsys):
    assert main(["data", "check", manifest, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["healthy"]
    assert main(["data", "peek", manifest, "-n", "1"]) == 0


def test_what_a_recipe_needs_is_told_without_a_request(server, manifest, tmp_path):
    spec = tmp_path / "x.yaml"
    spec.write_text(f"name: x\nshards: {manifest}\ndocuments: {server.url}/d.arrow\nimages: here.arrow\n")
    facts = look_at(str(spec))
    assert facts.rows is None and len(facts.missing) == 1 and "here.arrow (table)" in facts.missing[0]
    assert not server.asked


def test_an_index_cannot_be_written_elsewhere(capsys):
    assert main(["data", "index", "s3://bucket/cc3"]) == 2
    assert "s3://bucket/cc3 lies elsewhere, where no index can be written; run this where the tars" in " ".join(
        capsys.readouterr().err.split()
    )


def test_nothing_there_ends_with_the_exit_code_of_the_surroundings(server, capsys):
    assert main(["data", "check", f"{server.url}/none.json"]) == 3
    assert "HTTP 404 Not Found: not there" in " ".join(capsys.readouterr().err.split())
