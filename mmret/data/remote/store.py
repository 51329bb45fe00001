"""Files in object stores, and wherever else fsspec reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import fsspec

from mmret.data.remote.address import shown
from mmret.data.remote.failure import Transient, another_size, missing, no_rights
from mmret.errors import EnvironmentProblem, RemoteError

_PIECE = 16 << 20

Result = TypeVar("Result")


def version(address: str) -> str | None:
    """What changes with the file."""
    return _asked(address, lambda files, path: str(files.ukey(path)))


def pieces(address: str) -> Iterator[bytes]:
    """The whole file."""
    size = _size(address)
    for start in range(0, size, _PIECE):
        yield part(address, start, min(_PIECE, size - start), size)


def part(address: str, start: int, length: int, size: int) -> bytes:
    """Bytes `start` to `start + length` of a file of `size` bytes."""
    data = _asked(address, lambda files, path: files.cat_file(path, start=start, end=start + length))
    if len(data) == length:
        return data
    if (found := _size(address)) != size:
        raise another_size(address, f"{found:,} bytes", size)
    raise Transient(f"{len(data):,} of {length:,} bytes came")


def _size(address: str) -> int:
    return int(_asked(address, lambda files, path: files.info(path)["size"]))


def _asked(address: str, question: Callable[[Any, str], Result]) -> Result:
    try:
        files, path = fsspec.core.url_to_fs(address, use_listings_cache=False)
        return question(files, path)
    except ImportError as error:
        raise EnvironmentProblem(f"{shown(address)}: {error}; or all of them: pip install 'mmret[remote]'") from error
    except FileNotFoundError as error:
        raise missing(address, "FileNotFoundError") from error
    except PermissionError as error:
        raise no_rights(address, f"PermissionError ({error})") from error
    except (ValueError, TypeError, NotImplementedError) as error:
        raise RemoteError(f"{shown(address)}: cannot be asked for ({error}); is the address right?") from error
    except Exception as error:
        # Each store has errors of its own; what is none of the above is the network's or the server's.
        raise Transient(f"{type(error).__name__}: {error}") from error
