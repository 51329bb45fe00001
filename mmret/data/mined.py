"""Negatives that were found for a source's samples and lie beside its shards: `mmret mine` writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mmret.data.sample_table import SampleTable, write_sample_table

if TYPE_CHECKING:
    from mmret.data.decode import Parsed


class MinedNegatives(SampleTable):
    """Ids of the documents table for each sample."""

    column, content, command = "negatives", "mined negatives", "mmret mine"
    absent = "it was mined for other shards, or the sample was broken then: mine again (mmret mine)"

    def add_to(self, sample: Parsed) -> Parsed:
        """The sample with its mined negatives behind its own, each document once; a teacher's scores know none of them.

        Raises:
            SampleError: nothing was mined for a sample of this name.
        """
        own = {reference for reference in sample.negatives if isinstance(reference, str)}
        mined = [id for id in self.of(sample.name) if id not in own]
        meta = sample.meta
        if isinstance(meta.get("scores"), list):
            meta = {**meta, "scores": [*meta["scores"], *[None] * len(mined)]}
        return replace(sample, negatives=[*sample.negatives, *mined], meta=meta)


def write_mined(rows: Iterable[tuple[str, Sequence[str], Sequence[float]]], path: str | Path) -> None:
    """Write (shard:key, ids of its negatives, a model's scores of them) of every sample of a source.

    Raises:
        SampleError: a sample's name occurs twice.
    """
    write_sample_table(
        ((name, {MinedNegatives.column: list(ids), "scores": list(scores)}) for name, ids, scores in rows), path
    )
