import pytest
import torch

from mmret.index import search
from mmret.types import Embeddings
from tests.unit.evaluation.toy import DotRetriever, WordRetriever

DOT = DotRetriever()


def late(num, tokens, dim=8, seed=0):
    """Random late-interaction embeddings of various lengths."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.nn.functional.normalize(torch.randn(num, tokens, dim, generator=generator), dim=-1)
    mask = torch.arange(tokens) < torch.randint(1, tokens + 1, (num, 1), generator=generator)
    return Embeddings(vectors * mask.unsqueeze(-1), mask)


def slow_search(queries, documents, k):
    """Loops over pairs and tokens; documents sorted by (-score, row)."""
    found = []
    for q, q_mask in zip(queries.vectors, queries.mask):
        ranked = []
        for row, (d, d_mask) in enumerate(zip(documents.vectors, documents.mask)):
            score = sum(max(float(x @ y) for y in d[d_mask]) for x in q[q_mask])
            ranked.append((-score, row))
        found.append([(row, -score) for score, row in sorted(ranked)[:k]])
    return found


def test_search_equals_a_slow_loop_over_pairs_and_tokens():
    queries, documents = late(5, 4, seed=1), late(30, 6, seed=2)
    scores, rows = search(WordRetriever(), queries, documents, 7, block=4, query_block=2)
    expected = slow_search(queries, documents, 7)
    assert rows.tolist() == [[row for row, _ in query] for query in expected]
    torch.testing.assert_close(scores, torch.tensor([[score for _, score in query] for query in expected]))


@pytest.mark.parametrize("block", [1, 3, 16, 1000])
def test_rankings_do_not_depend_on_block_sizes_or_on_how_the_corpus_is_cut(block):
    queries, documents = late(5, 4, seed=1), late(30, 6, seed=2)
    whole = search(WordRetriever(), queries, documents, 10)
    parts = [documents.select(slice(0, 1)), documents.select(slice(1, 20)), documents.select(slice(20, None))]
    cut = search(WordRetriever(), queries, iter(parts), 10, block=block, query_block=block)
    assert torch.equal(whole[1], cut[1])
    torch.testing.assert_close(whole[0], cut[0])


@pytest.mark.parametrize("block", [1, 2, 3, 100])
def test_equal_scores_are_ordered_by_smaller_row(block):
    queries = Embeddings(torch.tensor([[1.0, 0.0]]))
    documents = Embeddings(torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.5, 0.0], [1.0, 0.0], [-0.0, 0.0], [1.0, 0.0]]))
    scores, rows = search(DOT, queries, documents, 6, block=block)
    assert rows.tolist() == [[1, 3, 5, 2, 0, 4]]
    assert scores.tolist() == [[1.0, 1.0, 1.0, 0.5, 0.0, 0.0]]
    assert search(DOT, queries, documents, 2, block=block)[1].tolist() == [[1, 3]]


def test_negative_scores_sort_below_zero_and_among_themselves():
    queries = Embeddings(torch.tensor([[1.0]]))
    values = [-1e-30, 3.0, -2.0, 0.0, -1e30, 1e-30, -2.5]
    scores, rows = search(DOT, queries, Embeddings(torch.tensor(values).unsqueeze(1)), 7)
    assert scores[0].tolist() == torch.tensor(sorted(values, reverse=True)).tolist()
    assert rows.tolist() == [[1, 5, 3, 0, 2, 6, 4]]


def test_a_reordered_corpus_reports_and_breaks_ties_by_its_own_row_numbers():
    queries = Embeddings(torch.tensor([[1.0, 0.0]]))
    documents = Embeddings(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.5, 0.0]]))
    order = torch.tensor([2, 3, 1, 0])
    scores, rows = search(DOT, queries, documents.select(order), 4, rows=order, block=2)
    assert rows.tolist() == [[0, 2, 3, 1]]
    assert scores.tolist() == [[1.0, 1.0, 0.5, 0.0]]


def test_k_is_capped_at_the_size_of_the_corpus():
    scores, rows = search(WordRetriever(), late(2, 3), late(4, 3), 10)
    assert scores.shape == rows.shape == (2, 4)


def test_half_precision_embeddings_are_searched_too():
    queries, documents = late(3, 4, seed=1), late(12, 6, seed=2)
    half = search(WordRetriever(), queries.to(dtype=torch.float16), documents.to(dtype=torch.float16), 3)
    assert torch.equal(half[1], search(WordRetriever(), queries, documents, 3)[1])


def test_nan_scores_are_an_error_that_names_the_model():
    documents = Embeddings(torch.tensor([[1.0], [float("nan")]]))
    with pytest.raises(ValueError, match=r"DotRetriever.score gave NaN"):
        search(DOT, Embeddings(torch.tensor([[1.0]])), documents, 1)


def test_row_numbers_that_do_not_fit_the_corpus_are_an_error():
    queries, documents = Embeddings(torch.ones(1, 2)), Embeddings(torch.ones(3, 2))
    for wrong in (2, 4):
        with pytest.raises(ValueError, match=f"{wrong} rows for a corpus"):
            search(DOT, queries, documents, 1, rows=torch.arange(wrong))
    with pytest.raises(ValueError, match="k >= 1"):
        search(DOT, queries, documents, 0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_what_the_cpu_finds():
    queries, documents = late(40, 4, seed=1), late(300, 6, seed=2)
    scores, rows = search(WordRetriever(), queries, documents, 10)
    on_gpu = search(WordRetriever().cuda(), queries, documents, 10, block=64, device="cuda")
    assert torch.equal(rows, on_gpu[1])
    torch.testing.assert_close(scores, on_gpu[0], rtol=1e-5, atol=1e-5)
