"""Readers of what others publish: tables and folders in, shards and a documents table out. No training, no models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mmret.data.sources.m2kr import M2KRConfig, build_m2kr
from mmret.data.sources.record import Built, Counts
from mmret.data.sources.track import Track


@dataclass(frozen=True)
class SourceReader:
    """One kind of published data."""

    Config: type
    """Its options, a dataclass; the command line reads names, types and help from it."""
    build: Callable[[Any, Track], list[Built]]
    summary: str


SOURCES: dict[str, SourceReader] = {
    "m2kr": SourceReader(M2KRConfig, build_m2kr, "M2KR's parquet tables and picture folders (PreFLMR's nine tasks)"),
}
"""What `mmret data build` can read."""

__all__ = ["SOURCES", "Built", "Counts", "SourceReader", "Track"]
