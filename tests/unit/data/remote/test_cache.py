"""What the cache promises: whole files only, each fetched once, never more than the limit."""

import gzip
import os
import pickle
import time

import pytest

from mmret.data.remote import NoRoom, RemoteCache, RemoteDamaged, RemoteMissing
from mmret.data.shards import file_sha256
from mmret.errors import ConfigError, RemoteError, SampleError

SIZE = 100_000


def put(server, name, seed=0, size=SIZE):
    """A file on the server; gives its address, size and checksum."""
    path = server.folder / name
    path.write_bytes(bytes([seed]) + os.urandom(size - 1))
    return f"{server.url}/{name}", size, file_sha256(path)


def content(file):
    with file:
        return os.pread(file.fileno(), 10 * SIZE, 0)


def test_a_file_is_fetched_once_and_equal(server, cache):
    place = put(server, "x.tar")
    wanted = (server.folder / "x.tar").read_bytes()
    assert content(cache.shard(*place)) == wanted == content(pickle.loads(pickle.dumps(cache)).shard(*place))
    assert server.names(".tar") == ["x.tar"]
    assert cache.room.used() == SIZE and not list(cache.room.parts.iterdir())


@pytest.mark.parametrize("fault", ["cut", "flip", 503, 500, 429])
def test_what_may_pass_is_tried_again(server, cache, fault):
    place = put(server, "x.tar")
    server.faults["x.tar"] = [fault, fault]
    assert content(cache.shard(*place)) == (server.folder / "x.tar").read_bytes()


def test_an_answer_that_is_always_cut_never_becomes_visible(server, cache):
    place = put(server, "x.tar")
    server.faults["x.tar"] = ["cut"] * 5
    with pytest.raises(RemoteError, match=r"x\.tar: cannot be fetched: the answer broke off .*after 5 tries"):
        cache.shard(*place)
    assert not list(cache.room.files.glob("*/*")) and not list(cache.room.parts.iterdir())


def test_wrong_bytes_are_asked_for_thrice(server, cache):
    address, size, _ = put(server, "x.tar")
    with pytest.raises(RemoteDamaged, match=r"x\.tar: its bytes have another checksum .* 3 times; .*upload it again"):
        cache.shard(address, size, "0" * 64)
    with pytest.raises(RemoteDamaged, match=r"100,000 of 100,001 bytes came, 3 times"):
        cache.shard(address, size + 1, None)
    with pytest.raises(RemoteDamaged, match=r"more than 99,999 bytes came"):
        cache.shard(address, size - 1, None)
    assert len(server.names(".tar")) == 9 and not list(cache.room.files.glob("*/*"))


@pytest.mark.parametrize(
    "status, error, text",
    [
        (404, RemoteMissing, r"/x\.tar\?\.\.\.: HTTP 404 Not Found: not there; compare the address"),
        (403, RemoteError, r"/x\.tar\?\.\.\.: HTTP 403 Forbidden: no right to read it; give this machine access"),
        (400, RemoteError, "HTTP 400 Bad Request; is the address right"),
    ],
)
def test_what_does_not_pass_is_said_at_once(server, cache, waits, status, error, text):
    address, size, digest = put(server, "x.tar")
    server.faults["x.tar"] = [status]
    with pytest.raises(error, match=text):
        cache.shard(f"{address}?sig=secret", size, digest)
    assert not waits and not server.faults["x.tar"]


def test_waits_double_and_are_the_same_each_time(server, cache, waits, monkeypatch, caplog):
    from mmret.data.remote import failure

    monkeypatch.setattr(failure, "DELAYS_S", (1, 2, 4))
    place = put(server, "x.tar")
    server.faults["x.tar"] = [503] * 4
    with pytest.raises(RemoteError, match="HTTP 503 Service Unavailable, after 4 tries; look after the network"):
        cache.shard(*place)
    assert waits == [1, 2, 4]
    assert "x.tar: HTTP 503 Service Unavailable; try 2 of 4 in 1 s" in caplog.text


def test_a_server_that_is_not_there_is_named_with_its_reason(cache):
    with pytest.raises(RemoteError, match=r"http://127\.0\.0\.1:9/x\.tar: cannot be fetched: .*[Cc]onnection refused"):
        cache.shard("http://127.0.0.1:9/x.tar", 1, None)


def test_the_limit_holds_and_what_is_unused_for_longest_goes(server, tmp_path):
    cache = RemoteCache(tmp_path / "small", 3.5 * SIZE / 1e9)
    places = [put(server, f"{number}.tar", number) for number in range(5)]
    for number in (0, 1, 2, 0, 3):
        cache.shard(*places[number]).close()
        time.sleep(0.01)  # file times tell the order
        assert cache.room.used() <= cache.room.max_bytes
    assert sorted(path.name for path in cache.room.files.glob("*/*")) == ["0.tar", "2.tar", "3.tar"]


def test_what_is_in_use_stays(server, tmp_path):
    cache = RemoteCache(tmp_path / "small", 2.5 * SIZE / 1e9)
    places = [put(server, f"{number}.tar", number) for number in range(4)]
    first = cache.shard(*places[0])
    for number in (1, 2, 3):
        cache.shard(*places[number]).close()
    assert {path.name for path in cache.room.files.glob("*/*")} == {"0.tar", "3.tar"}
    with (
        cache.shard(*places[3]),
        pytest.raises(NoRoom, match=r"no room for 0\.1 MB: 0\.2 MB are in use, .*raise MMRET"),
    ):
        cache.shard(*places[1])
    assert content(first) == (server.folder / "0.tar").read_bytes()


def test_two_processes_fetch_once(server, cache):
    place = put(server, "x.tar")
    wanted = (server.folder / "x.tar").read_bytes()
    server.go.clear()
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            os._exit(0 if content(cache.shard(*place)) == wanted else 1)
        children.append(child)
    time.sleep(0.3)  # both are at it: one asks, the other waits
    server.go.set()
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert server.names(".tar") == ["x.tar"]


def test_what_a_killed_process_left_is_deleted(server, cache):
    cache.room.parts.mkdir(parents=True)
    (cache.room.parts / "left").write_bytes(b"half")
    cache.shard(*put(server, "x.tar")).close()
    assert not list(cache.room.parts.iterdir())


def test_a_compressed_shard_is_kept_inflated(server, cache):
    plain = os.urandom(50_000) + bytes(50_000)
    path = server.folder / "x.tar.gz"
    path.write_bytes(gzip.compress(plain))
    file = cache.shard(f"{server.url}/x.tar.gz", path.stat().st_size, file_sha256(path))
    assert file.name.name == "x.tar" and content(file) == plain
    assert cache.room.used() == 100_000
    path.write_bytes(b"no gzip at all")
    with pytest.raises(SampleError, match=r"x\.tar\.gz: the shard does not inflate"):
        cache.shard(f"{server.url}/x.tar.gz", 14, None)


def test_a_file_without_checksum_is_fetched_again_when_its_version_changes(server, cache):
    address, *_ = put(server, "m.json")
    first = cache.file(address)
    assert cache.file(address) == first and server.names("m.json") == ["m.json"]
    put(server, "m.json", 1)
    second = cache.file(address)
    assert second != first and second.read_bytes() == (server.folder / "m.json").read_bytes()
    assert second.name == "m.json" and first.is_file()  # whoever reads the old one goes on


def test_a_file_of_no_known_version_is_fetched_each_time(tmp_path, cache):
    (tmp_path / "m.json").write_text("1")
    first = cache.file(f"pipe:cat {tmp_path / 'm.json'}")
    (tmp_path / "m.json").write_text("2")
    assert (first.read_text(), cache.file(f"pipe:cat {tmp_path / 'm.json'}").read_text()) == ("1", "2")


def test_a_server_that_tells_no_version_is_asked_each_time(server, cache):
    server.tags = False
    address, *_ = put(server, "m.json")
    assert cache.file(address) == cache.file(address)
    assert server.names("m.json") == ["m.json", "m.json"]


def test_a_command_that_fails_says_what_it_said(cache):
    words = r"pipe:cat /no/x\.tar: cannot be fetched: exit code 1: .*No such file.*3 tries; look after the command"
    with pytest.raises(RemoteError, match=words):
        cache.shard("pipe:cat /no/x.tar", 1, None)
    with pytest.raises(RemoteError, match=r"exit code 127: .*not found; install the command"):
        cache.shard("pipe:no-such-command-here x.tar", 1, None)


def test_a_store_is_read_through_fsspec(cache):
    import fsspec

    files = fsspec.filesystem("memory")
    files.pipe_file("/bucket/x.tar", b"abc")
    assert content(cache.shard("memory://bucket/x.tar", 3, None)) == b"abc"
    assert cache.file("memory://bucket/x.tar").read_bytes() == b"abc"
    with pytest.raises(RemoteMissing, match=r"memory://bucket/y\.tar: FileNotFoundError: not there"):
        cache.shard("memory://bucket/y.tar", 3, None)
    with pytest.raises(RemoteError, match=r"nosuch://b/x: cannot be asked for .*nosuch"):
        cache.file("nosuch://b/x")


def test_the_limit_is_a_number_above_zero(monkeypatch):
    for text in ("0", "many", "-1", "nan", "inf"):
        monkeypatch.setenv("MMRET_DATA_CACHE_GB", text)
        with pytest.raises(ConfigError, match=f"MMRET_DATA_CACHE_GB='{text}': want the cache's limit in GB"):
            RemoteCache.default()


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RemoteError, match=r"file: the data cache cannot be used .*set MMRET_DATA_CACHE to a folder"):
        RemoteCache(tmp_path / "file", 1).shard(*put(server, "x.tar"))
