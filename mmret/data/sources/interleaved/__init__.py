"""Documents of pictures between texts, as OBELICS and MINT lay them out, as shards of pairs or of whole documents."""

from mmret.data.sources.interleaved.build import build_interleaved
from mmret.data.sources.interleaved.config import InterleavedConfig

__all__ = ["InterleavedConfig", "build_interleaved"]
