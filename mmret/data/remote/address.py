"""Addresses of files that lie elsewhere: which texts are such, what lies beside them, how messages name them."""

from __future__ import annotations

import re
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from mmret.errors import ConfigError

PIPE = "pipe:"
"""Begins a command whose output is the file, as in webdataset."""
_REMOTE = re.compile(r"pipe:|[A-Za-z][\w+.:-]*://")
_GZIP = ("gz",)


def is_remote(text: object) -> bool:
    """An URL, or a `pipe:` command; else a path."""
    return isinstance(text, str) and _REMOTE.match(text) is not None


def is_web(address: str) -> bool:
    """Served by HTTP."""
    return address.startswith(("http://", "https://"))


def has_ranges(address: str) -> bool:
    """Parts of it can be asked for, and tell something: no command, not compressed as a whole."""
    return not address.startswith(PIPE) and not file_name(address).endswith(_GZIP)


def beside(address: str, name: str) -> str:
    """The address that `name` has in a file at `address`: relative to it, or a full address.

    Raises:
        ConfigError: a fetched file names a command, or something relative to a command.
    """
    if name.startswith(PIPE) and not address.startswith(PIPE):
        raise ConfigError(
            f"{shown(address)} names the command {name!r}: a file from elsewhere may not say what runs here; "
            "if you trust it, download it and name your copy in the data spec"
        )
    if is_remote(name):
        return name
    if address.startswith(PIPE):
        raise ConfigError(
            f"{shown(address)} names {name!r}, but beside a command nothing lies; give each shard a full address or a "
            "command of its own"
        )
    if is_web(address):
        parts = urlsplit(address)
        # The query stays: it may hold the rights for the whole folder.
        found = urlsplit(urljoin(urlunsplit(parts._replace(query="", fragment="")), quote(name)))
        return urlunsplit(found._replace(query=parts.query))
    return f"{address.rpartition('/')[0]}/{name}"


def file_name(address: str) -> str:
    """Name of the file; of a command its last word that looks like one."""
    if address.startswith(PIPE):
        words = [word.strip("'\"").rpartition("/")[2] for word in address[len(PIPE) :].split()]
        return next((word for word in reversed(words) if "." in word.strip(".")), "output")
    path = urlsplit(address).path if is_web(address) else address
    return path.rstrip("/").rpartition("/")[2] or "file"


def renamed(address: str, name: str) -> str:
    """Another file of the same folder."""
    if is_web(address):
        parts = urlsplit(address)
        return urlunsplit(parts._replace(path=f"{parts.path.rpartition('/')[0]}/{quote(name)}"))
    return f"{address.rpartition('/')[0]}/{name}"


def shown(address: str) -> str:
    """For messages: without passwords, and without what follows "?", which may grant rights."""
    if not is_web(address):
        return re.sub(r"//[^/@]*@", "//", address) if not address.startswith(PIPE) else address
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=host, query="..." if parts.query else "", fragment=""))
