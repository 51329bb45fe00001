"""GradCache's gradient is the full batch's, for any chunks on 1, 2 and 4 ranks, with one all-reduce a step."""

from dataclasses import replace

import pytest
import torch
import torch.distributed as dist

from mmret.objectives import HardNegativeConfig, ITCConfig, Step
from mmret.ops import average_gradients
from mmret.ops.grad_cache import fixed_chunks, row_lengths, token_chunks
from mmret.recipe.schema import GradCacheConfig
from mmret.training.contrastive import ContrastiveModule
from mmret.training.module import RetrievalModule
from mmret.types import Batch, Embeddings, Inputs
from tests.processes import run_processes
from tests.unit.training.toy_towers import NUM_DOCUMENTS, QUERIES, TwoTowers, batch_of, fit, stage_of

pytestmark = pytest.mark.dist

CHUNKS = [{"chunk_size": 1}, {"chunk_size": 3}, {"chunk_size": 7}, {"tokens_per_chunk": 11}]
CASES = [
    *((late_interaction, 0.4, chunks) for late_interaction in (False, True) for chunks in CHUNKS),
    *((late_interaction, 0.0, {"chunk_size": 3}) for late_interaction in (False, True)),
    *((late_interaction, 0.4, {"chunk_size": 2, "keep_graph": "auto"}) for late_interaction in (False, True)),
]


def module_of(late_interaction, dropout, chunks):
    return ContrastiveModule(
        TwoTowers(late_interaction, dropout), stage_of(late_interaction, GradCacheConfig(**chunks)), accumulate=1
    )


def seed_rank(module, batch, batch_idx):
    """The random state before a rank's step, whatever the module's own seeding says."""
    torch.manual_seed(100 + (dist.get_rank() if dist.is_initialized() else 0))


def cached(rank, world):
    """Gradients and collectives of every case on this rank."""
    results = []
    ContrastiveModule.on_train_batch_start = seed_rank
    plain = dist.all_reduce
    for case in CASES:
        module = module_of(*case)
        reduced = []

        size = sum(p.numel() for p in module.parameters())

        def counted(tensor, *args, reduced=reduced, size=size, **kwargs):
            reduced.append(tensor.dim() == 1 and tensor.numel() >= size)  # embeddings' gradients have two axes or more
            return plain(tensor, *args, **kwargs)

        dist.all_reduce = counted
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            seen, _ = fit(module, [batch_of(rank, world)], rank, world)
        dist.all_reduce = plain
        # DDP's own reductions pass by Python, but not by the profiler.
        every = sum(event.name == "gloo:all_reduce" for event in profile.events())
        results.append((seen.gradients[0], sum(reduced), every - len(reduced)))
    return results


def full(world, late_interaction, dropout, chunks):
    """One graph over the global batch; with dropout, the ranks' chunks in order, so that the same numbers drop out."""
    module = module_of(late_interaction, dropout, chunks).train()
    module.log = lambda *args, **kwargs: None
    module.log_dict = lambda *args, **kwargs: None

    def chunks_of(inputs: Inputs):
        if not dropout:
            return [torch.arange(len(inputs))]
        if "chunk_size" in chunks:
            return fixed_chunks(len(inputs), chunks["chunk_size"])
        return token_chunks(row_lengths(inputs), chunks["tokens_per_chunk"])

    def encode(tower, inputs):
        rows = chunks_of(inputs)
        return Embeddings.cat([tower(inputs.select(r)) for r in rows]).select(torch.cat(rows).argsort())

    queries, documents = [], []
    for rank in range(world):
        torch.manual_seed(100 + rank)
        batch = batch_of(rank, world)
        queries.append(encode(module.model.encode_query, batch.query))
        documents.append(encode(module.model.encode_document, batch.document))
    whole = batch_of(0, 1)
    step = Step(
        module.model,
        Batch(whole.query, whole.document, NUM_DOCUMENTS),
        queries=Embeddings.cat(queries),
        documents=Embeddings.cat(documents),
    )
    module.total_loss(step).backward()
    return [p.grad for p in module.parameters()]


@pytest.mark.parametrize("world", [1, 2, 4])
def test_cached_gradient_is_the_full_batchs_with_one_reduction_a_step(world):
    for rank, results in enumerate(run_processes(cached, world, world)):
        for case, (gradients, reductions, behind_our_back) in zip(CASES, results):
            ours = torch.cat([g.flatten() for g in gradients])
            reference = torch.cat([g.flatten() for g in full(world, *case)])
            difference = float((ours - reference).norm() / reference.norm())
            assert difference <= 1e-6, f"rank {rank} of {world}, {case}: {difference}"
            assert reductions == (0 if world == 1 else 1), f"rank {rank} of {world}, {case}"
            assert behind_our_back == 0, f"rank {rank} of {world}, {case}"


COUNTS = [2, 1, 1, 1, 2, 2, 1, 2]
LOSSES = [
    ITCConfig(temperature=0.1, learn_temperature=True, mask_margin=0.2, hardness=2.0, matryoshka=[2, 4]),
    HardNegativeConfig(),
]


def ragged_batch(rank, world):
    """This rank's queries with one or two documents each: ranks encode different numbers of rows."""
    batch, per_rank = batch_of(rank, world), QUERIES // world
    counts = COUNTS[rank * per_rank : (rank + 1) * per_rank]
    there = [NUM_DOCUMENTS * i + k for i, count in enumerate(counts) for k in range(count)]
    return replace(batch, document=batch.document.select(there), document_counts=torch.tensor(counts))


def ragged(rank, world, cache):
    """Gradients of each loss on this rank."""
    found = []
    for late_interaction in (False, True):
        for loss in LOSSES:
            stage = replace(stage_of(late_interaction, cache), objectives={"loss": loss})
            module = (RetrievalModule if cache is None else ContrastiveModule)(TwoTowers(late_interaction), stage)
            seen, _ = fit(module, [ragged_batch(rank, world)], rank, world)
            found.append(torch.cat([g.flatten() for g in seen.gradients[0]]))
    return found


@pytest.mark.parametrize("world", [2, 4])
def test_rows_with_fewer_documents_have_the_gradient_of_one_rank(world):
    whole = ragged(0, 1, None)
    cache = GradCacheConfig(chunk_size=3, keep_graph="auto", memory_gb=1e-6)
    for rank, found in enumerate(run_processes(ragged, world, world, cache)):
        for ours, reference in zip(found, whole):
            assert float((ours - reference).norm() / reference.norm()) <= 1e-6, f"rank {rank} of {world}"


def uneven(rank, bucket_bytes):
    """Three parameters: gradient on both ranks, on rank 1 only, on none."""
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]
    parameters[0].grad = torch.tensor([1.0, 2.0]) * (rank + 1)
    if rank == 1:
        parameters[1].grad = torch.tensor([4.0, 0.0])
    average_gradients(parameters, bucket_bytes)
    return [None if p.grad is None else p.grad.tolist() for p in parameters]


@pytest.mark.parametrize("bucket_bytes", [1, 1000])
def test_a_gradient_on_one_rank_counts_half_and_one_on_none_stays_away(bucket_bytes):
    for gradients in run_processes(uneven, 2, bucket_bytes):
        assert gradients == [[1.5, 3.0], [2.0, 0.0], None]
