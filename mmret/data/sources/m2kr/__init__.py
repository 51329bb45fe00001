"""M2KR's published tables and picture folders to shards and documents tables; only what is particular to M2KR."""

from mmret.data.sources.m2kr.build import build_m2kr
from mmret.data.sources.m2kr.checks import Finding, open_tables
from mmret.data.sources.m2kr.config import M2KRConfig

__all__ = ["Finding", "M2KRConfig", "build_m2kr", "open_tables"]
