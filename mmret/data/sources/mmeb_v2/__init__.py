"""MMEB-V2's published video and document sets, as shards, frames and corpora; its picture sets are MMEB's."""

from mmret.data.sources.mmeb_v2.build import build_mmeb_v2
from mmret.data.sources.mmeb_v2.config import MMEBV2Config

__all__ = ["MMEBV2Config", "build_mmeb_v2"]
