import pytest

from mmret.data.remote import beside, file_name, has_ranges, is_remote, shown
from mmret.errors import ConfigError


@pytest.mark.parametrize("text", ["https://h/x.json", "s3://b/x", "gs://b/x", "memory://x", "pipe:cat x", "az://c/x"])
def test_urls_and_commands_are_remote(text):
    assert is_remote(text)


@pytest.mark.parametrize("text", ["x.json", "/data/x.json", "../x.json", "a:b.json", "C:/x.json"])
def test_paths_are_not(text):
    assert not is_remote(text)


@pytest.mark.parametrize(
    "base, name, found",
    [
        ("https://h/a/m.json", "x-0.tar", "https://h/a/x-0.tar"),
        ("https://h/a/m.json?sv=1&sig=2", "sub/x 0.tar", "https://h/a/sub/x%200.tar?sv=1&sig=2"),
        ("https://h/a/m.json", "https://other/x.tar", "https://other/x.tar"),
        ("s3://b/a/m.json", "x-0.tar", "s3://b/a/x-0.tar"),
        ("s3://b/a/m.json", "gs://c/x.tar", "gs://c/x.tar"),
        ("pipe:aws s3 cp s3://b/m.json -", "pipe:aws s3 cp s3://b/x.tar -", "pipe:aws s3 cp s3://b/x.tar -"),
    ],
)
def test_names_are_relative_to_the_manifest(base, name, found):
    assert beside(base, name) == found


def test_a_fetched_manifest_may_not_say_what_runs_here():
    with pytest.raises(ConfigError, match=r"https://h/m\.json names the command 'pipe:rm x'.*may not say what runs"):
        beside("https://h/m.json", "pipe:rm x")


def test_beside_a_command_lies_nothing():
    with pytest.raises(ConfigError, match="beside a command nothing lies; give each shard a full address"):
        beside("pipe:cat m.json", "x.tar")


@pytest.mark.parametrize(
    "address, name",
    [
        ("https://h/a/x%200.tar?sig=1", "x%200.tar"),
        ("s3://b/x.tar", "x.tar"),
        ("pipe:aws s3 cp s3://b/x.tar -", "x.tar"),
        ("pipe:curl 'https://h/x.tar.gz' | cat", "x.tar.gz"),
        ("pipe:make", "output"),
    ],
)
def test_a_copy_is_named_as_the_original(address, name):
    assert file_name(address) == name


def test_commands_and_compressed_shards_have_no_ranges():
    assert has_ranges("https://h/x.tar") and has_ranges("s3://b/x.tar")
    assert not has_ranges("pipe:cat x.tar") and not has_ranges("https://h/x.tar.gz?a=1")


def test_messages_keep_secrets():
    assert shown("https://me:word@h/x.tar?sig=abc") == "https://h/x.tar?..."
    assert shown("ftp://me:word@h/x.tar") == "ftp://h/x.tar"
