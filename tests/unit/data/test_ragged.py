"""Rows with fewer negatives than others, and documents that several sources share."""

import pytest
import torch

from mmret.data import MixtureDataModule, Sample, write_shards, write_table
from mmret.errors import ConfigError
from mmret.ops import false_negatives
from mmret.recipe.schema import MixtureConfig, SourceConfig
from mmret.types import NO_DOCUMENT, Inputs, Need

TABLE = [f"d{number}" for number in range(8)]


class Bytes:
    """A row is the first byte of its text's end, so that it can be told apart."""

    def __call__(self, contents, role):
        return Inputs({"x": torch.tensor([[ord(content.text[-1])] for content in contents])})


def source(folder, name, rows, table=None):
    """A spec with (positives, negatives) rows by id; `table`: another source's folder, whose documents it searches."""
    folder.mkdir(exist_ok=True)
    where = "d.arrow" if table is None else f"../{table.name}/d.arrow"
    if table is None:
        write_table([{"id": id, "text": id} for id in TABLE], folder / "d.arrow")
    samples = [
        Sample(f"{i:03d}", {"query": {"text": f"q{i}"}, "positives": positives, "negatives": negatives})
        for i, (positives, negatives) in enumerate(rows)
    ]
    write_shards(samples, folder, "train")
    spec = folder / f"{name}.yaml"
    spec.write_text(f"name: toy/{name}\nshards: train.manifest.json\ndocuments: {where}\n")
    return spec


def batches(specs, count=1, rank=0, world=1, **fields):
    settings = {"batch_size": 4, "documents_per_query": 3, "fill_negatives": False, "shuffle_window": 0, **fields}
    mixture = MixtureConfig(sources={str(spec): SourceConfig(1.0) for spec in specs}, **settings)
    data = MixtureDataModule(mixture, Bytes(), frozenset({Need.DOCUMENT}), 0, count)
    data.rank, data.world = rank, world
    return list(data.train_dataloader())


ROWS = [(["d0"], ["d1", "d2"]), (["d3"], []), (["d4"], ["d5"]), (["d6"], ["d7", "d1", "d2"])]


def test_a_row_brings_the_negatives_it_has_up_to_k(tmp_path):
    (batch,) = batches([source(tmp_path / "one", "one", ROWS)])
    assert batch.num_documents == 3
    assert sorted(batch.document_counts.tolist()) == [1, 2, 3, 3]
    assert len(batch.document) == 9  # no place is filled with an empty text
    places = batch.document_ids.view(4, 3) != NO_DOCUMENT
    assert places.sum(1).tolist() == batch.document_counts.tolist()
    # Each query's positive is where the batch says that it is.
    firsts = batch.document.dense["x"][batch.positive_rows, 0].tolist()
    expected = {ord("0"): "0", ord("1"): "3", ord("2"): "4", ord("3"): "6"}
    assert [chr(first) for first in firsts] == [expected[int(query)] for query in batch.query.dense["x"][:, 0]]


def test_ranks_share_the_rows_of_one_batch(tmp_path):
    spec = source(tmp_path / "one", "one", ROWS)
    (whole,), *parts = batches([spec]), *(batches([spec], rank=rank, world=2) for rank in range(2))
    assert torch.equal(torch.cat([part[0].document_counts for part in parts]), whole.document_counts)
    assert torch.equal(torch.cat([part[0].document_ids for part in parts]), whole.document_ids)


def test_rows_that_all_have_enough_say_so_too(tmp_path):
    (batch,) = batches([source(tmp_path / "one", "one", [(["d0"], ["d1", "d2"])] * 4)])
    assert batch.document_counts.tolist() == [3] * 4  # ranks agree on what to gather


def test_filling_from_the_table_stays_the_default_and_an_error_without_one(tmp_path):
    spec = source(tmp_path / "one", "one", ROWS)
    (batch,) = batches([spec], fill_negatives=True)
    assert batch.document_counts is None and len(batch.document) == 12
    rows = [{"query": {"text": "q"}, "positives": [{"text": "p"}], "negatives": []}] * 4
    bare = tmp_path / "bare"
    write_shards([Sample(f"{i:03d}", row) for i, row in enumerate(rows)], bare, "train")
    (bare / "bare.yaml").write_text("name: toy/bare\nshards: train.manifest.json\n")
    with pytest.raises(ConfigError, match="has no documents table to draw the rest from"):
        batches([bare / "bare.yaml"], fill_negatives=True)
    (batch,) = batches([bare / "bare.yaml"])
    assert batch.document_counts.tolist() == [1] * 4


def test_sources_of_one_table_know_each_others_positives_and_of_two_tables_do_not(tmp_path):
    one = source(tmp_path / "one", "one", [(["d0"], [])] * 4)
    same = source(tmp_path / "same", "same", [(["d0"], [])] * 4, table=tmp_path / "one")
    other = source(tmp_path / "other", "other", [(["d0"], [])] * 4)
    for second, known in ((same, 3), (other, 1)):
        (batch,) = batches([one, second], block_size=2)
        assert len(set(batch.sources)) == 2
        mask = false_negatives(batch.positive_ids, batch.document_ids, torch.arange(4) * 3)
        # Each row's document 0 answers all rows of its table: 3 others in both sources, or 1 in its own.
        assert mask.sum(1).tolist() == [known] * 4


def test_inline_documents_are_known_across_sources_by_their_content(tmp_path):
    numbers = []
    for name, texts in (("a", ["red", "blue"]), ("b", ["red", "green"])):
        rows = [{"query": {"text": "q"}, "positives": [{"text": text}]} for text in texts]
        write_shards([Sample(f"{i:03d}", row) for i, row in enumerate(rows)], tmp_path / name, "train")
        spec = tmp_path / name / "spec.yaml"
        spec.write_text(f"name: toy/{name}\nshards: train.manifest.json\n")
        (batch,) = batches([spec], batch_size=2, documents_per_query=1)
        numbers.append(set(batch.document_ids.tolist()))
    assert len(numbers[0] & numbers[1]) == 1
