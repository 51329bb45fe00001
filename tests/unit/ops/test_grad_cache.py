"""Chunks, replay and random states of the cached encoding."""

import pytest
import torch
from torch import nn

from mmret.ops.grad_cache import CachedEncoding, RandomState, fixed_chunks, row_lengths, token_chunks
from mmret.ops.memory import GraphMemory, storages
from mmret.types import Embeddings, Inputs


def test_fixed_chunks_are_neighbours_and_the_last_is_what_remains():
    assert [chunk.tolist() for chunk in fixed_chunks(7, 3)] == [[0, 1, 2], [3, 4, 5], [6]]


def test_token_chunks_group_rows_of_similar_length_within_the_budget():
    # Padded sizes: [9] = 9, [5, 5] = 10, [3, 2] = 6 with room for a third row of 3, [2, 1] ...
    assert [chunk.tolist() for chunk in token_chunks([2, 9, 5, 3, 5, 1], 10)] == [[1], [2, 4], [3, 0, 5]]


def test_a_row_longer_than_the_budget_is_a_chunk_of_its_own():
    assert [chunk.tolist() for chunk in token_chunks([4, 20, 4], 8)] == [[1], [0, 2]]


def test_a_row_is_as_long_as_its_attention_mask_says():
    assert row_lengths(Inputs({"attention_mask": torch.tensor([[0, 1, 1], [0, 0, 1]])})) == [2, 1]


def test_rows_without_attention_mask_have_no_length():
    with pytest.raises(ValueError, match="no attention_mask among the inputs \\['pixel_values'\\]"):
        row_lengths(Inputs({"pixel_values": torch.zeros(2, 3)}))


def test_random_numbers_come_again_and_then_go_on():
    state = RandomState()
    first = torch.rand(3)
    expected = torch.rand(3)
    state_after_first = RandomState()
    with state.again():
        assert torch.equal(torch.rand(3), first)
    following = torch.rand(3)
    with state_after_first.again():
        assert torch.equal(torch.rand(3), following)
    assert not torch.equal(expected, following)


class Encoder(nn.Module):
    """Dropout, two heads, token axes as long as a chunk's longest row."""

    def __init__(self):
        super().__init__()
        self.main, self.side = nn.Linear(4, 4), nn.Linear(4, 2)
        self.drop = nn.Dropout(0.5)
        self.calls = 0

    def forward(self, inputs):
        self.calls += 1
        mask = inputs.dense["attention_mask"].bool()
        longest = int(mask.sum(1).max())
        mask, x = mask[:, :longest], self.drop(inputs.dense["x"][:, :longest])
        side = Embeddings(self.side(x).mean(1))
        return Embeddings(self.main(x) * mask.unsqueeze(2), mask, {"side": side})


def rows(count=7):
    lengths = torch.arange(count) * 5 % 4 + 1
    mask = (torch.arange(5) < lengths.unsqueeze(1)).long()
    return Inputs({"x": torch.randn(count, 5, 4), "attention_mask": mask})


def loss_of(embeddings):
    weights = torch.linspace(0.1, 1, len(embeddings))
    main = embeddings.vectors.sum(1).pow(2).sum(1)
    return (weights * main).sum() + (weights * embeddings.aux["side"].vectors.pow(3).sum(1)).sum()


def gradient(encoder):
    return torch.cat([p.grad.flatten() for p in encoder.parameters()])


CHUNKS = [fixed_chunks(7, 1), fixed_chunks(7, 3), fixed_chunks(7, 7), token_chunks([1, 2, 3, 4, 1, 2, 3], 8)]


@pytest.mark.parametrize("keep", [0, 1, 9])
@pytest.mark.parametrize("chunks", CHUNKS, ids=["1", "3", "7", "tokens"])
def test_cached_gradient_is_that_of_one_graph_with_the_same_dropout(chunks, keep):
    encoder, inputs = Encoder(), rows()

    torch.manual_seed(1)
    parts = [encoder(inputs.select(chunk)) for chunk in chunks]
    loss_of(Embeddings.cat(parts).select(torch.cat(chunks).argsort())).backward()
    expected = gradient(encoder)
    encoder.zero_grad()

    torch.manual_seed(1)
    cached = CachedEncoding(encoder, inputs, chunks, keep)
    loss_of(cached.embeddings).backward()
    cached.replay()
    assert (gradient(encoder) - expected).norm() <= 1e-6 * expected.norm()


def test_kept_chunks_are_encoded_once():
    encoder, inputs = Encoder(), rows()
    cached = CachedEncoding(encoder, inputs, fixed_chunks(7, 2), keep=3)
    loss_of(cached.embeddings).backward()
    cached.replay()
    assert encoder.calls == 5


def test_graphs_of_chunks_are_freed_before_the_next_one_is_made():
    alive = []

    class Probe(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            alive.append(1)
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            alive.pop()
            return g

    class Probed(Encoder):
        most = 0

        def forward(self, inputs):
            inputs = Inputs({**inputs.dense, "x": Probe.apply(inputs.dense["x"].clone().requires_grad_())})
            if torch.is_grad_enabled():
                self.most = max(self.most, len(alive))
            else:
                alive.clear()
            return super().forward(inputs)

    encoder = Probed()
    cached = CachedEncoding(encoder, rows(), fixed_chunks(7, 1))
    loss_of(cached.embeddings).backward()
    cached.replay()
    assert encoder.most == 1


def expected_gradient(encoder, inputs, chunks, seed=1):
    """Of one graph over all chunks, with the same dropout."""
    torch.manual_seed(seed)
    parts = [encoder(inputs.select(chunk)) for chunk in chunks]
    loss_of(Embeddings.cat(parts).select(torch.cat(chunks).argsort())).backward()
    found = gradient(encoder)
    encoder.zero_grad()
    encoder.calls = 0
    return found


def graph_bytes(encoder, inputs, rows):
    """What the graph of some rows takes."""
    memory = GraphMemory(torch.device("cpu"), 10**9, weights=storages(encoder.parameters()))
    with torch.random.fork_rng(), memory.measure() as size:
        encoder(inputs.select(rows))
    encoder.calls = 0
    return size[0]


@pytest.mark.parametrize("room", [0, 1, 2.5, 1000])
def test_as_many_chunks_keep_their_graph_as_there_is_room_for(room):
    encoder, inputs, chunks = Encoder(), rows(), fixed_chunks(7, 1)
    expected = expected_gradient(encoder, inputs, chunks)
    largest = max(graph_bytes(encoder, inputs, chunk) for chunk in chunks)
    memory = GraphMemory(torch.device("cpu"), int(room * largest), weights=storages(encoder.parameters()))
    memory.begin()
    torch.manual_seed(1)
    cached = CachedEncoding(encoder, inputs, chunks, memory)
    kept = cached.num_kept
    assert memory.kept <= room * largest
    assert kept == (0 if room == 0 else 7) if room in (0, 1000) else 1 <= kept < 7
    loss_of(cached.embeddings).backward()
    cached.replay()
    assert encoder.calls == 7 + (7 - kept)  # what is kept is computed once: nothing is lost where all fit
    assert (gradient(encoder) - expected).norm() <= 1e-6 * expected.norm()


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_memory_that_runs_out_on_the_way_changes_nothing_but_what_is_kept(error):
    class Greedy(Encoder):
        """Its third graph does not fit, which shows after dropout has drawn."""

        graphs = 0

        def forward(self, inputs):
            found = super().forward(inputs)
            self.graphs += torch.is_grad_enabled()
            if torch.is_grad_enabled() and self.graphs == 3 and not self.tolerant:
                raise error
            return found

    encoder, inputs, chunks = Greedy(), rows(), fixed_chunks(7, 1)
    encoder.tolerant = True
    expected = expected_gradient(encoder, inputs, chunks)
    encoder.tolerant, encoder.graphs = False, 0
    memory = GraphMemory(torch.device("cpu"), 10**9, weights=storages(encoder.parameters()))
    memory.begin()
    torch.manual_seed(1)
    cached = CachedEncoding(encoder, inputs, chunks, memory)
    assert cached.num_kept == 2
    encoder.tolerant = True
    loss_of(cached.embeddings).backward()
    cached.replay()
    assert (gradient(encoder) - expected).norm() <= 1e-6 * expected.norm()
    memory.begin()
    assert 0 < memory.room < memory.limit  # the next step tries no more than this one held


def test_another_error_of_the_encoder_stays_one():
    def broken(inputs):
        raise RuntimeError("shapes do not fit")

    memory = GraphMemory(torch.device("cpu"), 10**9)
    memory.begin()
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        CachedEncoding(broken, rows(), fixed_chunks(7, 3), memory)
