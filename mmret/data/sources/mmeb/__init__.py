"""MMEB's published tables, training and evaluation, as shards, picture tables and lists of candidates."""

from mmret.data.sources.mmeb.build import build_mmeb
from mmret.data.sources.mmeb.config import MMEBConfig

__all__ = ["MMEBConfig", "build_mmeb"]
