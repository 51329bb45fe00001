from importlib import import_module

import pytest
import torch

from mmret.ops import maxsim


def slow_maxsim(queries, documents, mask):
    """Loops over everything: the definition."""
    scores = torch.zeros(len(queries), len(documents))
    for b, query in enumerate(queries):
        for n, document in enumerate(documents):
            for token in query:
                best = -torch.inf
                for t, other in enumerate(document):
                    best = max(best, float(token @ other) if mask[n, t] else -9999.0)
                scores[b, n] += best
    return scores


def einsum_maxsim(queries, documents, mask):
    similarity = torch.einsum("bld,ntd->blnt", queries, documents).masked_fill(~mask, -9999.0)
    return similarity.amax(-1).sum(1)


def toy():
    queries, documents = torch.randn(3, 4, 5), torch.randn(6, 7, 5)
    return queries.requires_grad_(), documents.requires_grad_(), torch.rand(6, 7) > 0.3


def test_hand_computed_score():
    queries = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    documents = torch.tensor([[[0.6, 0.8], [1.0, 0.0]], [[0.0, -1.0], [-1.0, 0.0]]])
    assert maxsim(queries, documents).tolist() == [[pytest.approx(1.8), pytest.approx(0.0)]]


@pytest.mark.parametrize("chunk", [None, 1, 2, 5, 100])
def test_equals_the_slow_definition_whatever_the_chunk(chunk):
    queries, documents, mask = toy()
    torch.testing.assert_close(maxsim(queries, documents, mask, chunk=chunk), slow_maxsim(queries, documents, mask))


def test_gradient_equals_autograd_of_the_full_similarity_grid():
    queries, documents, mask = toy()
    weight = torch.randn(3, 6)
    ours = torch.autograd.grad((maxsim(queries, documents, mask, chunk=2) * weight).sum(), [queries, documents])
    theirs = torch.autograd.grad((einsum_maxsim(queries, documents, mask) * weight).sum(), [queries, documents])
    for mine, reference in zip(ours, theirs):
        torch.testing.assert_close(mine, reference)


@pytest.mark.parametrize("together", [2, 4, 100])
def test_documents_whose_gradients_are_made_together_as_on_a_gpu_get_the_same(together, monkeypatch):
    queries, documents, mask = toy()
    mask[4] = False
    weight = torch.randn(3, 6)

    def gradients():
        return torch.autograd.grad((maxsim(queries, documents, mask) * weight).sum(), [queries, documents])

    alone = gradients()
    monkeypatch.setattr(import_module("mmret.ops.maxsim"), "_documents_together", lambda *_: together)
    torch.testing.assert_close(gradients(), alone)


def test_padding_never_wins():
    queries, documents, mask = toy()
    far = documents.detach().clone()
    far[~mask] = 1e3
    torch.testing.assert_close(maxsim(queries, far, mask), maxsim(queries, documents, mask))


def test_wholly_masked_document_scores_minus_9999_per_query_token_and_gets_no_gradient():
    queries, documents, mask = toy()
    mask[2] = False
    scores = maxsim(queries, documents, mask)
    assert scores[:, 2].tolist() == [-9999.0 * 4] * 3
    (gradient,) = torch.autograd.grad(scores.sum(), [documents])
    assert gradient[2].abs().sum() == 0


def test_scores_are_float32_for_half_precision_input_and_under_autocast():
    queries, documents, mask = toy()
    with torch.autocast("cpu", torch.bfloat16):
        scores = maxsim(queries.bfloat16(), documents.bfloat16(), mask)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, einsum_maxsim(queries.bfloat16().float(), documents.bfloat16().float(), mask))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="maxsim wants"):
        maxsim(torch.zeros(2, 3, 4), torch.zeros(2, 3, 5))
    with pytest.raises(ValueError, match="mask"):
        maxsim(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), torch.ones(2, 4, dtype=torch.bool))
