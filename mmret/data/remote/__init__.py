"""Files that lie elsewhere (HTTP, object stores, commands): fetched into a bounded cache, or read by ranges."""

from mmret.data.remote.address import PIPE, beside, file_name, has_ranges, is_remote, renamed, shown
from mmret.data.remote.cache import RemoteCache
from mmret.data.remote.failure import NoRanges, NoRoom, RemoteDamaged, RemoteMissing
from mmret.data.remote.shard import ShardBytes, index_address, open_fetched, open_ranged, remote_index
from mmret.data.remote.transfer import read_range

__all__ = [
    "PIPE",
    "NoRanges",
    "NoRoom",
    "RemoteCache",
    "RemoteDamaged",
    "RemoteMissing",
    "ShardBytes",
    "beside",
    "file_name",
    "has_ranges",
    "index_address",
    "is_remote",
    "open_fetched",
    "open_ranged",
    "read_range",
    "remote_index",
    "renamed",
    "shown",
]
