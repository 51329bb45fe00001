"""Costs against numbers counted by hand."""

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from mmret.bench.flops import counting
from mmret.bench.latency import _bytes, _evenly, _vectors
from mmret.bench.per_query import write_per_query
from mmret.errors import CheckpointError
from mmret.ops.memory import peak_memory_mb
from mmret.types import Embeddings


def test_a_linear_layer_takes_two_operations_a_weight_and_row_forward_and_as_many_for_its_gradient():
    layer = nn.Linear(5, 7, bias=False)
    with counting() as flops:
        layer(torch.randn(3, 5)).sum().backward()
    assert flops.total == 2 * 3 * 5 * 7 * 2  # the input wants no gradient
    assert flops.left_out == 0


def test_a_cached_tower_is_counted_apart():
    tower, head = nn.Linear(5, 7, bias=False).requires_grad_(False), nn.Linear(7, 2, bias=False)
    with counting([tower, tower]) as flops:
        head(tower(torch.randn(3, 5))).sum().backward()
    assert flops.left_out == 2 * 3 * 5 * 7
    assert flops.total - flops.left_out == 2 * 3 * 7 * 2 * 2


def test_bytes_of_a_document_are_those_of_the_vectors_that_count():
    mask = torch.tensor([[True, True, True], [True, False, False]])
    many = [Embeddings(torch.zeros(2, 3, 16), mask)]
    assert _vectors(many) == 2.0 and _bytes(many) == 2 * 16 * 4
    assert _bytes([Embeddings(torch.zeros(2, 16, dtype=torch.float16))]) == 32


def test_a_large_corpus_is_sampled_evenly():
    assert _evenly(3, 10) == [0, 1, 2] and _evenly(100, 4) == [0, 25, 50, 75]


def test_values_of_single_queries_become_a_table_without_controls(tmp_path):
    rows = [
        {"benchmark": "emoji", "split": "test", "control": control, "query": "q,1", "first_place": 2, "recall@1": 0.0}
        | {"mrr": 0.5, "pseudo_recall@5": None}
        for control in (None, "chance")
    ]
    texts = [(name, pa.string()) for name in ("benchmark", "split", "control", "query")]
    numbers = [(name, pa.float64()) for name in ("recall@1", "mrr", "pseudo_recall@5")]
    schema = pa.schema([*texts, ("first_place", pa.int32()), *numbers])
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "queries.parquet")
    text = gzip.decompress(write_per_query(tmp_path).read_bytes()).decode()
    assert text.splitlines() == [
        "benchmark,split,query,metric,value",
        'emoji,test,"q,1",recall@1,0',
        'emoji,test,"q,1",mrr,0.5',
    ]
    with pytest.raises(CheckpointError, match=r"no queries\.parquet"):
        write_per_query(tmp_path / "elsewhere")


def test_peak_memory_of_this_process_stays_when_memory_is_given_back():
    before = peak_memory_mb(torch.device("cpu"))
    if before is None:
        pytest.skip("no /proc here")
    block = torch.ones(int(before + 64) * 2**20 // 4)  # more than what was ever there, whatever is free now
    del block
    assert peak_memory_mb(torch.device("cpu")) >= before + 60  # the kernel counts in batches of pages
