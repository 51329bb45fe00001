"""Readers of what others publish: tables and folders in, shards and a documents table out. No training, no models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmret.data.sources.interleaved import InterleavedConfig, build_interleaved
from mmret.data.sources.karpathy import KarpathyConfig, build_karpathy
from mmret.data.sources.labelled import (
    ClassFolderConfig,
    NLVR2Config,
    VQAv2Config,
    build_class_folder,
    build_nlvr2,
    build_vqav2,
)
from mmret.data.sources.m2kr import M2KRConfig, build_m2kr
from mmret.data.sources.mmeb import MMEBConfig, build_mmeb
from mmret.data.sources.mmeb_v2 import MMEBV2Config, build_mmeb_v2
from mmret.data.sources.pairs import PairsConfig, build_pairs
from mmret.data.sources.plan import Plan
from mmret.data.sources.record import Built, Counts
from mmret.data.sources.slice import Slice
from mmret.data.sources.table import TableConfig, build_table
from mmret.data.sources.text import TextConfig, build_text
from mmret.data.sources.track import Track


@dataclass(frozen=True)
class SourceReader:
    """One kind of published data."""

    Config: type
    """Its options, a dataclass; the command line reads names, types and help from it."""
    build: Callable[[Any, Track], list[Built]]
    summary: str
    variable: Callable[[Sequence[Built]], tuple[str, Path] | None] = lambda built: None
    """Environment variable by which the shipped data specs find what was built, and its value; None: there is none."""


def _karpathy_variable(built: Sequence[Built]) -> tuple[str, Path] | None:
    dataset = built[0].name.partition("/")[0]
    return (f"MMRET_{dataset.upper()}", built[0].manifest.parent) if dataset in ("coco", "flickr30k") else None


def _imagenet_variable(built: Sequence[Built]) -> tuple[str, Path] | None:
    return ("MMRET_IMAGENET", built[0].manifest.parent) if built[0].name.startswith("imagenet/") else None


SOURCES: dict[str, SourceReader] = {
    "image_folder": SourceReader(
        ClassFolderConfig, build_class_folder, "pictures in a folder for each class (ImageNet)", _imagenet_variable
    ),
    "interleaved": SourceReader(
        InterleavedConfig, build_interleaved, "documents of pictures between texts (OBELICS, MINT)"
    ),
    "karpathy": SourceReader(
        KarpathyConfig, build_karpathy, "COCO's or Flickr30k's Karpathy split, both ways", _karpathy_variable
    ),
    "m2kr": SourceReader(
        M2KRConfig,
        build_m2kr,
        "M2KR's parquet tables and picture folders (PreFLMR's nine tasks)",
        lambda built: ("MMRET_M2KR", built[0].manifest.parents[1]) if built else None,
    ),
    "mmeb": SourceReader(
        MMEBConfig,
        build_mmeb,
        "MMEB's training or evaluation tables and their pictures (VLM2Vec's tasks)",
        lambda built: ("MMRET_MMEB", built[0].manifest.parents[1]) if built else None,
    ),
    "mmeb_v2": SourceReader(
        MMEBV2Config,
        build_mmeb_v2,
        "MMEB-V2's video and document tables, their frames and pages (its picture sets are mmeb's)",
        lambda built: ("MMRET_MMEB_V2", built[0].manifest.parents[1]) if built else None,
    ),
    "nlvr2": SourceReader(
        NLVR2Config,
        build_nlvr2,
        "NLVR2's sentences about two pictures each",
        lambda built: ("MMRET_NLVR2", built[0].manifest.parent),
    ),
    "pairs": SourceReader(PairsConfig, build_pairs, "a folder of pictures with captions: name.jpg beside name.txt"),
    "table": SourceReader(
        TableConfig,
        build_table,
        "anybody's CSV, TSV, JSONL or parquet: columns by option; pictures by path, URL or bytes",
    ),
    "text": SourceReader(
        TextConfig,
        build_text,
        "text corpora, line by line or by paragraph (VLMo's language stage)",
        lambda built: ("MMRET_TEXT", built[0].manifest.parents[1]),
    ),
    "vqav2": SourceReader(
        VQAv2Config,
        build_vqav2,
        "VQAv2's questions, answers as classes with soft scores",
        lambda built: ("MMRET_VQAV2", built[0].manifest.parent),
    ),
}
"""What `mmret data build` can read."""

__all__ = ["SOURCES", "Built", "Counts", "Plan", "Slice", "SourceReader", "Track"]
