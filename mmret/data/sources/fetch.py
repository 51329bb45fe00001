"""Pictures from the web: timeouts, retries with growing pauses, and a cause for every failure."""

from __future__ import annotations

import http.client
import random
import socket
import ssl
import string
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from email.message import Message
from functools import cache

import mmret

MAX_BYTES = 50_000_000
"""Of one picture; more is no picture anybody trains on."""
_LATER = frozenset((408, 425, 429, 500, 502, 503, 504))
"""HTTP codes after which asking again may help."""
_LONGEST_PAUSE_S = 30.0
_CHUNK = 1 << 16
_OPTED_OUT = frozenset(("noai", "noimageai"))
"""What sites say in `X-Robots-Tag` who do not want their pictures trained on."""


class FetchError(Exception):
    """A picture that did not come."""

    def __init__(self, cause: str, text: str, later: bool = False):
        """`cause`: what failures are counted by; `later`: another try may help."""
        super().__init__(text)
        self.cause, self.later, self.pause_s = cause, later, 0.0


def fetch(url: str, timeout_s: float = 20.0, retries: int = 2, wait: Callable[[float], None] = time.sleep) -> bytes:
    """What lies at an http or https address.

    Args:
        timeout_s: of each try, from connecting to the last byte.
        retries: further tries after failures that may pass; the pauses are 1, 2, 4, ... seconds and up to half as much
            again, or what the server asks for.
    Raises:
        FetchError: it did not come.
    """
    for attempt in range(retries + 1):
        try:
            return _once(url, timeout_s)
        except FetchError as error:
            if not error.later or attempt == retries:
                raise
            pause = max(2.0**attempt * random.uniform(1, 1.5), error.pause_s)
            wait(min(pause, _LONGEST_PAUSE_S))
    raise AssertionError("retries is at least 0")


@cache
def opener() -> urllib.request.OpenerDirector:
    """Opens http and https and nothing else, whatever a redirect says; proxies are the environment's."""
    made = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        made.add_handler(handler)
    made.addheaders = [("User-Agent", f"mmret/{mmret.__version__} (data build)")]
    return made


def _once(url: str, timeout_s: float) -> bytes:
    end = time.monotonic() + timeout_s
    try:
        # Crawled addresses hold blanks and letters that want quoting; what is quoted stays.
        with opener().open(urllib.parse.quote(url.strip(), safe=string.punctuation), timeout=timeout_s) as answer:
            _refuse_opted_out(answer.headers, url)
            return _read(answer, end, url)
    except urllib.error.HTTPError as error:
        with error:
            raised = FetchError(f"http {error.code}", f"{url}: HTTP {error.code} {error.reason}", error.code in _LATER)
            asked = error.headers.get("Retry-After") or ""
            raised.pause_s = float(asked) if asked.isdecimal() else 0.0
        raise raised from error
    except urllib.error.URLError as error:
        raise _told(error.reason, url) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _told(error, url) from error


def _read(answer: http.client.HTTPResponse, end: float, url: str) -> bytes:
    data, promised = bytearray(), answer.headers.get("Content-Length")
    # read1 gives what one packet brought: a server that drips would else hold a thread for hours.
    while chunk := answer.read1(_CHUNK):
        data += chunk
        if len(data) > MAX_BYTES:
            raise FetchError("too large", f"{url}: more than {MAX_BYTES // 10**6} MB")
        if time.monotonic() > end:
            raise FetchError("timeout", f"{url}: still coming when the time was over", later=True)
    if promised is not None and promised.isdecimal() and len(data) < int(promised):
        raise FetchError("cut off", f"{url}: {len(data)} of {promised} bytes came", later=True)
    return bytes(data)


def _refuse_opted_out(headers: Message, url: str) -> None:
    for line in headers.get_all("X-Robots-Tag") or ():
        # "noai, noindex", or for one robot "somebot: noai"; the latter is not us.
        if ":" not in line and _OPTED_OUT & {word.strip().lower() for word in line.split(",")}:
            raise FetchError("opted out", f"{url}: its site does not want it trained on (X-Robots-Tag: {line})")


def _told(error: object, url: str) -> FetchError:
    if isinstance(error, TimeoutError):
        return FetchError("timeout", f"{url}: no answer in time", later=True)
    if isinstance(error, socket.gaierror):
        return FetchError("no such host", f"{url}: {error}", later=error.errno == socket.EAI_AGAIN)
    if isinstance(error, ssl.SSLError):
        return FetchError("tls", f"{url}: {error}")
    if isinstance(error, (http.client.InvalidURL, UnicodeError)):
        return FetchError("bad url", f"{url!r}: {error}")
    if isinstance(error, (OSError, http.client.HTTPException)):
        return FetchError("connection", f"{url}: {error or type(error).__name__}", later=True)
    return FetchError("bad url", f"{url!r}: {error}")
