"""COCO and Flickr30k in the Karpathy split: pictures with about five captions each, searched both ways."""

from mmret.data.sources.karpathy.build import build_karpathy
from mmret.data.sources.karpathy.config import KarpathyConfig

__all__ = ["KarpathyConfig", "build_karpathy"]
