"""A server of an empty folder, a cache of its own, and no waiting between tries."""

import pytest

from mmret.data.remote import RemoteCache, command, failure
from tests.file_server import serve


@pytest.fixture
def server(tmp_path):
    (tmp_path / "served").mkdir()
    with serve(tmp_path / "served") as running:
        yield running


@pytest.fixture
def waits(monkeypatch):
    """The seconds that were waited, in order."""
    found = []
    monkeypatch.setattr(failure.time, "sleep", found.append)
    return found


@pytest.fixture(autouse=True)
def _no_delays(monkeypatch):
    monkeypatch.setattr(failure, "DELAYS_S", (0, 0, 0, 0))
    monkeypatch.setattr(command, "DELAYS_S", (0, 0))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMRET_DATA_CACHE", str(tmp_path / "cache"))
    return RemoteCache.default()
