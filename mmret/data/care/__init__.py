"""Looking after shards that are there: what is wrong with them, what is in them, indexes for those of others."""

from mmret.data.care.check import CheckReport, check
from mmret.data.care.collection import Collection
from mmret.data.care.foreign import Indexed, index_tars
from mmret.data.care.look import Looked, look
from mmret.data.care.statistics import Statistics, statistics

__all__ = [
    "CheckReport",
    "Collection",
    "Indexed",
    "Looked",
    "Statistics",
    "check",
    "index_tars",
    "look",
    "statistics",
]
