"""The committed demo data as plain Python objects, read without mmret's sources."""

import json
import tarfile
from functools import lru_cache
from pathlib import Path

import mmret.data.demo
from mmret.data import Table
from mmret.data.shards import Manifest

DEMO = Path(mmret.data.demo.__file__).parents[3] / "data_specs" / "demo"


@lru_cache
def rows(name: str) -> list[dict]:
    """The JSON of each sample of a manifest, its inline members under "members"."""
    manifest = Manifest.load(DEMO / f"{name}.manifest.json")
    found: dict[str, dict] = {}
    for shard in range(len(manifest.shards)):
        with tarfile.open(manifest.shard_path(shard)) as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                content = tar.extractfile(member).read()
                if suffix == "json":
                    found[key] = json.loads(content) | {"key": key, "members": {}}
                else:
                    found[key]["members"][suffix] = content
    assert len(found) == len(manifest)
    return list(found.values())


@lru_cache
def table(name: str) -> Table:
    return Table.open(DEMO / f"{name}.arrow")


def fact(document: str) -> tuple[str, ...]:
    """("fr", "capital")."""
    return tuple(document.split("/"))
