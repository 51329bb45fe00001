"""Files served by HTTP."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache

import requests
import urllib3

from mmret.data.remote.address import shown
from mmret.data.remote.failure import NoRanges, Transient, another_size, missing, no_rights
from mmret.errors import RemoteError

TIMEOUT_S = (10, 60)
"""To connect; between two pieces of an answer."""
_PIECE = 1 << 20
_OVERLOADED = (408, 425, 429)


def version(address: str) -> str | None:
    """What changes with the file: its tag, or date and size; None: the server tells neither."""
    # The first byte, not HEAD: a signed address is valid for GET alone.
    with _ask(address, (0, 0)) as answer:
        tag, date = answer.headers.get("ETag"), answer.headers.get("Last-Modified")
        whole = answer.headers.get("Content-Range", "").rpartition("/")[2] or answer.headers.get("Content-Length", "")
        return None if tag is None and date is None else f"{tag} {date} {whole}"


def pieces(address: str) -> Iterator[bytes]:
    """The whole file, as it lies there."""
    with _ask(address) as answer:
        yield from _body(answer)


def part(address: str, start: int, length: int, size: int) -> bytes:
    """Bytes `start` to `start + length` of a file of `size` bytes."""
    with _ask(address, (start, start + length - 1), size) as answer:
        if answer.status_code != 206:
            raise NoRanges(
                f"{shown(address)}: the server does not answer range requests; set `remote: cache` in the data spec, "
                "so that shards are fetched whole"
            )
        whole = answer.headers.get("Content-Range", "").rpartition("/")[2]
        if whole.isdigit() and int(whole) != size:
            raise another_size(address, f"{int(whole):,} bytes", size)
        data = b"".join(_body(answer))
    if len(data) < length:
        raise Transient(f"{len(data):,} of {length:,} bytes came")
    return data


def _ask(address: str, span: tuple[int, int] | None = None, size: int = 0) -> requests.Response:
    # Sizes and checksums are of the bytes that lie there: nothing may be compressed on the way.
    headers = {"Accept-Encoding": "identity"}
    if span is not None:
        headers["Range"] = f"bytes={span[0]}-{span[1]}"
    try:
        answer = _session(os.getpid()).get(address, headers=headers, stream=True, timeout=TIMEOUT_S)
    except requests.exceptions.SSLError as error:
        raise RemoteError(f"{shown(address)}: the server's certificate is refused ({_reason(error)})") from error
    except (requests.ConnectionError, requests.Timeout) as error:
        raise Transient(_reason(error)) from error
    except (requests.RequestException, ValueError) as error:
        raise RemoteError(f"{shown(address)}: cannot be asked for ({_reason(error)}); is the address right?") from error
    if answer.ok:
        return answer
    answer.close()
    status = f"HTTP {answer.status_code} {answer.reason}".strip()
    if answer.status_code in (404, 410):
        raise missing(address, status)
    if answer.status_code in (401, 403):
        raise no_rights(address, status)
    if answer.status_code == 416:
        raise another_size(address, f"{status}: fewer bytes", size)
    if answer.status_code >= 500 or answer.status_code in _OVERLOADED:
        raise Transient(status)
    raise RemoteError(f"{shown(address)}: {status}; is the address right?")


def _body(answer: requests.Response) -> Iterator[bytes]:
    """Pieces of the answer.

    Raises:
        Transient: it broke off, or ended before its announced length.
    """
    try:
        while piece := answer.raw.read(_PIECE, decode_content=False):
            yield piece
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Transient(f"the answer broke off ({_reason(error)})") from error


@lru_cache(1)
def _session(process: int) -> requests.Session:
    """Connections that stay open, never shared with a process that was forked."""
    del process
    return requests.Session()


def _reason(error: BaseException) -> str:
    """The innermost cause; texts further out repeat the address with its secrets."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    text = getattr(error, "strerror", None) or ("" if "://" in str(error) or "url:" in str(error) else str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
