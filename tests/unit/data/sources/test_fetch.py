"""Fetching from the web: what is tried again, what it is called when it fails, what is never opened."""

import socket

import pytest

from mmret.data.sources.fetch import FetchError, fetch, opener
from tests.unit.data.sources.pictures import web


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    opener.cache_clear()


def test_what_may_pass_is_tried_again_after_growing_pauses():
    answers = {"/a": [(503, {}, b""), (429, {"Retry-After": "7"}, b""), (200, {}, b"here")]}
    pauses = []
    with web(answers) as (address, asked):
        assert fetch(f"{address}/a", retries=2, wait=pauses.append) == b"here"
    assert asked == ["/a"] * 3
    assert 1 <= pauses[0] <= 1.5 and pauses[1] == 7


@pytest.mark.parametrize(
    "answer, cause, tries",
    [
        ((404, {}, b""), "http 404", 1),
        ((403, {}, b""), "http 403", 1),
        ((500, {}, b""), "http 500", 3),
        ((200, {"Content-Length": "9"}, b"half"), "cut off", 3),
        ((200, {"X-Robots-Tag": "noindex, NoAI"}, b"mine"), "opted out", 1),
        ((302, {"Location": "file:///etc/passwd"}, b""), "http 302", 1),
    ],
)
def test_each_failure_has_its_cause(answer, cause, tries):
    with web({"/a": [answer]}) as (address, asked), pytest.raises(FetchError) as raised:
        fetch(f"{address}/a", retries=2, wait=lambda _: None)
    assert (raised.value.cause, len(asked)) == (cause, tries)
    assert f"{address}/a" in str(raised.value)


def test_a_server_that_says_nothing_is_given_up():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(FetchError) as raised:
            fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/a", timeout_s=0.05, retries=0)
    assert raised.value.cause == "timeout"


def test_nobody_listening_and_addresses_that_are_none():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    for url, cause in ((f"http://127.0.0.1:{port}/", "connection"), ("http://[oh", "bad url"), ("http://", "bad url")):
        with pytest.raises(FetchError) as raised:
            fetch(url, retries=0)
        assert raised.value.cause == cause, url


def test_blanks_and_letters_are_quoted_and_what_is_quoted_stays():
    with web({"/a%20b/%C3%A9%2F.jpg?x=1&y=2": [(200, {}, b"here")]}) as (address, _):
        assert fetch(f"{address}/a b/é%2F.jpg?x=1&y=2 ", retries=0) == b"here"
