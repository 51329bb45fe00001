"""Reading text samples from a tar: ours by offset, webdataset by streaming; both parse the JSON, both make batches."""

from __future__ import annotations

import json
import os
import tempfile
from functools import partial
from pathlib import Path

import webdataset

from mmret.data import MixtureDataModule, Sample, write_shards
from mmret.data.index import ShardIndex, index_path
from mmret.recipe.schema import MixtureConfig, SourceConfig
from mmret.types import Inputs
from tests.bench.harness import Row, Run, race_apart

SAMPLES, BATCH = 65536, 64
SENTENCE = "a question about a picture of some place that a longer passage of text can answer well enough"
WORDS = SENTENCE.split(" ")


class Nothing:
    """A processor that costs nothing, so that what is left is the loader."""

    def __call__(self, contents, role):
        import torch

        return Inputs({"rows": torch.empty(len(contents), 0)})


def run() -> list[Row]:
    """One pass over 65,536 samples in batches of 64, without workers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = (
            Sample(
                f"{i:08d}",
                {
                    "query": {"text": " ".join(WORDS[: 5 + i % 12])},
                    "positives": [{"id": str(i), "text": " ".join(WORDS * 3)}],
                },
                {},
            )
            for i in range(SAMPLES)
        )
        write_shards(rows, folder, "train")
        (folder / "text.yaml").write_text(
            "name: bench/text\ndescription: text\nlicense: CC0-1.0\nshards: train.manifest.json\n"
        )
        return race_apart(
            f"loader, {SAMPLES} text samples, shuffled, batches of {BATCH}",
            {
                "mmret": partial(_ours, folder),
                "webdataset": partial(_theirs, folder),
                "pread + json.loads in a loop": partial(_bare, folder),
            },
            work=SAMPLES,
            unit="samples",
        )


def _ours(folder: Path) -> Run:
    source = {str(folder / "text.yaml"): SourceConfig()}
    mixture = MixtureConfig(sources=source, batch_size=BATCH)
    data = MixtureDataModule(mixture, Nothing(), frozenset(), 0, SAMPLES // BATCH)

    def run() -> None:
        for _ in data.train_dataloader():
            pass

    return run


def _theirs(folder: Path) -> Run:
    tars = sorted(map(str, folder.glob("*.tar")))

    def run() -> None:
        stream = webdataset.WebDataset(tars, shardshuffle=False).shuffle(1000).decode().to_tuple("__key__", "json")
        for _ in webdataset.WebLoader(stream, batch_size=BATCH, collate_fn=list, num_workers=0):
            pass

    return run


def _bare(folder: Path) -> Run:
    def run() -> None:
        for tar in sorted(folder.glob("*.tar")):
            index, file = ShardIndex(index_path(tar)), os.open(tar, os.O_RDONLY)
            for number in range(len(index)):
                ((_, offset, size),) = index.members(number)
                json.loads(os.pread(file, size, offset))
            os.close(file)

    return run
