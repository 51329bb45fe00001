"""From shards to batches: packing, order, mixture, decoding, collation. No models, no losses, no metrics."""

from typing import TYPE_CHECKING, Any

from mmret.data.classes import Classes, Target
from mmret.data.index import index_shard
from mmret.data.mixture import Mixture
from mmret.data.order import SampleOrder
from mmret.data.plan import Plan, Row
from mmret.data.shards import Manifest, Sample, write_shards
from mmret.data.source import Source
from mmret.data.spec import DataSpec, find_spec
from mmret.data.table import Table, write_table

if TYPE_CHECKING:
    from mmret.data.module import MixtureDataModule

__all__ = [
    "Classes",
    "DataSpec",
    "Manifest",
    "Mixture",
    "MixtureDataModule",
    "Plan",
    "Row",
    "Sample",
    "SampleOrder",
    "Source",
    "Table",
    "Target",
    "find_spec",
    "index_shard",
    "write_shards",
    "write_table",
]


def __getattr__(name: str) -> Any:
    # Data workers that are spawned import this package, and importing Lightning would take most of their start.
    if name == "MixtureDataModule":
        from mmret.data.module import MixtureDataModule

        return MixtureDataModule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
