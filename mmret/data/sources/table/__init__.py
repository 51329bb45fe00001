"""Anybody's tables, whose columns the options name, as shards: pictures by path, address, bytes or base64."""

from mmret.data.sources.table.build import build_table
from mmret.data.sources.table.config import TableConfig

__all__ = ["TableConfig", "build_table"]
