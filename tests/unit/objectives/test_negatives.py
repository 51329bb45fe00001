"""Ragged rows, negatives hidden by margin, hard ones raised, leading dimensions: each against loops."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from mmret.errors import ConfigError
from mmret.objectives import (
    ITC,
    HardNegative,
    HardNegativeConfig,
    ITCConfig,
    KLDistillation,
    KLDistillationConfig,
    MarginMSE,
    MarginMSEConfig,
    Step,
)
from mmret.types import NO_DOCUMENT, Batch, Embeddings, Inputs
from tests.builders import known_positives

B, K, D, T = 4, 3, 8, 0.1
COUNTS = [3, 1, 2, 3]


class Dot:
    """Scores by inner product."""

    def score(self, queries, documents):
        return queries.vectors @ documents.vectors.T


def vectors(count, seed=0):
    return normalize(torch.randn(count, D, generator=torch.Generator().manual_seed(seed)), dim=1)


def step(counts=None, ids=None, positives=None, teacher=None, queries=None, documents=None):
    queries = vectors(B) if queries is None else queries
    rows = B * K if counts is None else sum(counts)
    documents = vectors(rows, 1) if documents is None else documents
    batch = Batch(
        Inputs({"x": torch.zeros(B)}),
        Inputs({"x": torch.zeros(rows)}),
        K,
        document_ids=None if ids is None else torch.tensor(ids),
        document_counts=None if counts is None else torch.tensor(counts),
        positive_ids=None if positives is None else known_positives(positives),
        teacher_scores=None if teacher is None else torch.tensor(teacher),
    )
    return Step(Dot(), batch, queries=Embeddings(queries), documents=Embeddings(documents))


def firsts(counts):
    return [sum(counts[:i]) for i in range(len(counts))]


def slow(queries, documents, firsts, weight=lambda i, j, s, p: 1.0, width=D):
    """Mean over queries of -log(e^(p/T) / (e^(p/T) + sum over the other documents of weight x e^(s/T)))."""
    queries, documents = (normalize(x[:, :width], dim=1) for x in (queries, documents))
    total = 0.0
    for i, query in enumerate(queries):
        scores = [float(query @ document) for document in documents]
        p = scores[firsts[i]]
        others = sum(weight(i, j, s, p) * math.exp(s / T) for j, s in enumerate(scores) if j != firsts[i])
        total -= math.log(math.exp(p / T) / (math.exp(p / T) + others))
    return total / len(queries)


def slow_both(queries, documents, firsts, **more):
    positives = documents[firsts]
    return (slow(queries, documents, firsts, **more) + slow(positives, queries, list(range(B)), **more)) / 2


# Rows of different length


@pytest.mark.parametrize("symmetric", [False, True])
def test_rows_with_fewer_negatives_bring_those_they_have_and_nothing_stands_in_for_the_rest(symmetric):
    loss = ITC(ITCConfig(temperature=T, symmetric=symmetric))(step(COUNTS)).loss
    reference = (slow_both if symmetric else slow)(vectors(B), vectors(9, 1), firsts(COUNTS))
    assert loss == pytest.approx(reference, rel=1e-5)


def test_rows_that_are_all_full_are_what_they_are_without_counts():
    documents = vectors(B * K, 1)
    with_counts = ITC(ITCConfig(temperature=T))(step([K] * B, documents=documents)).loss
    assert torch.equal(with_counts, ITC(ITCConfig(temperature=T))(step(documents=documents)).loss)


def test_the_local_gradient_has_ragged_rows_too():
    config = ITCConfig(temperature=T, gradient="local", mask_false_negatives=False)
    assert ITC(config)(step(COUNTS)).loss == pytest.approx(
        slow_both(vectors(B), vectors(9, 1), firsts(COUNTS)), rel=1e-5
    )


@pytest.mark.parametrize("in_batch", [False, True])
def test_hard_negatives_may_be_ragged(in_batch):
    queries, documents, first = vectors(B), vectors(9, 1), firsts(COUNTS)

    def own(i, j, s, p):
        return 1.0 if in_batch or first[i] <= j < first[i] + COUNTS[i] else 0.0

    loss = HardNegative(HardNegativeConfig(temperature=T, in_batch=in_batch))(step(COUNTS)).loss
    assert loss == pytest.approx(slow(queries, documents, first, own), rel=1e-5)


def test_a_document_that_is_not_there_gets_no_gradient_and_each_that_is_gets_its_own():
    documents = vectors(9, 1).requires_grad_()
    loss = ITC(ITCConfig(temperature=T))(step(COUNTS, documents=documents)).loss
    loss.backward()
    numeric = torch.zeros(9, D)
    for i in range(9):
        for d in range(D):
            moved = [vectors(9, 1).double() for _ in range(2)]
            for sign, x in zip((1, -1), moved):
                x[i, d] += sign * 1e-4
            low, high = (
                ITC(ITCConfig(temperature=T))(step(COUNTS, documents=x, queries=vectors(B).double())).loss
                for x in reversed(moved)
            )
            numeric[i, d] = (high - low) / 2e-4
    assert torch.allclose(documents.grad, numeric, atol=1e-4)


def test_known_positives_are_left_out_of_ragged_rows():
    # Rows: [1, 2, 3], [4], [5, 1], [6, 7, 8]; document 1, the first query's positive, is the third's negative, too.
    ids = [1, 2, 3, 4, NO_DOCUMENT, NO_DOCUMENT, 5, 1, NO_DOCUMENT, 6, 7, 8]
    loss = ITC(ITCConfig(temperature=T, symmetric=False))(step(COUNTS, ids, [[1], [4], [5], [6]])).loss
    hidden = {(0, 5)}  # place of the second document 1 among those that are there
    reference = slow(vectors(B), vectors(9, 1), firsts(COUNTS), lambda i, j, s, p: 0.0 if (i, j) in hidden else 1.0)
    assert loss == pytest.approx(reference, rel=1e-5)


@pytest.mark.parametrize("objective", [KLDistillation(KLDistillationConfig()), MarginMSE(MarginMSEConfig())])
def test_distillation_passes_empty_places_by(objective):
    nan = math.nan
    teacher = [[3.0, 1.0, 2.0], [1.0, nan, nan], [2.0, 4.0, nan], [0.5, 1.0, 0.1]]
    documents = vectors(9, 1).requires_grad_()
    loss = objective(step(COUNTS, teacher=teacher, documents=documents)).loss
    loss.backward()
    assert documents.grad.isfinite().all()
    whole = torch.zeros(B * K, D)
    for i, (first, count) in enumerate(zip(firsts(COUNTS), COUNTS)):
        whole[i * K : i * K + count] = vectors(9, 1)[first : first + count]
    assert loss.item() == pytest.approx(float(objective(step(teacher=teacher, documents=whole)).loss), rel=1e-5)


def test_documents_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match=r"8 document rows, want 9 \(sum of the counts\)"):
        Batch(
            Inputs({"x": torch.zeros(4)}),
            Inputs({"x": torch.zeros(8)}),
            K,
            document_counts=torch.tensor(COUNTS),
        )


# Hidden by margin


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("margin", "ratio"), [(0.1, None), (-0.2, None), (None, 0.8), (0.05, 0.95)])
def test_negatives_above_the_margin_are_left_out(margin, ratio, symmetric):
    def weight(i, j, s, p):
        hidden = margin is not None and s > p + margin
        hidden = hidden or (ratio is not None and s > p - (1 - ratio) * abs(p))
        return 0.0 if hidden else 1.0

    config = ITCConfig(temperature=T, symmetric=symmetric, mask_margin=margin, mask_ratio=ratio)
    found, plain = ITC(config)(step(COUNTS)), ITC(ITCConfig(temperature=T, symmetric=symmetric))(step(COUNTS))
    reference = (slow_both if symmetric else slow)(vectors(B), vectors(9, 1), firsts(COUNTS), weight=weight)
    assert found.loss == pytest.approx(reference, rel=1e-4, abs=1e-6)
    assert found.loss < plain.loss
    assert found.metrics["accuracy"] == plain.metrics["accuracy"]  # what is hidden from the loss still ranks


def test_a_margin_is_of_the_scores_not_of_the_logits():
    queries, documents = torch.tensor([[1.0, 0.0]] * B), torch.zeros(B * K, 2)
    documents[::K, 0], documents[1, 0] = 0.5, 0.58
    config = ITCConfig(temperature=0.01, symmetric=False, mask_margin=0.1)
    found = ITC(config)(step(queries=queries, documents=documents)).loss
    # 8 / 0.01 above, yet within 0.1: it counts. All four queries see it.
    assert found == pytest.approx(8 + math.log(1 + 4 * math.exp(-8)), rel=1e-4)


def test_several_positives_stay_positives_beyond_the_margin():
    ids, positives = list(range(12)), [[0, 3], [3], [6], [9]]
    config = ITCConfig(temperature=T, symmetric=False, multi_positive=True, mask_margin=-5.0)
    loss = ITC(config)(step(ids=ids, positives=positives)).loss
    scores = vectors(B) @ vectors(12, 1).T / T
    first = -torch.log_softmax(scores[0, [0, 3]], 0).mean()  # no negative is left
    assert loss == pytest.approx(float(first) / B, rel=1e-4)


# Hardness


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("mean_one", [False, True])
def test_hard_negatives_weigh_by_the_exponential_of_their_score(mean_one, symmetric):
    beta = 3.0

    def weighed(queries, documents, firsts):
        scores = queries @ documents.T
        means = []
        for i, first in enumerate(firsts):
            weights = [math.exp(beta * float(s)) for j, s in enumerate(scores[i]) if j != first]
            means.append(sum(weights) / len(weights) if mean_one else 1.0)
        return slow(queries, documents, firsts, lambda i, j, s, p: math.exp(beta * s) / means[i])

    queries, documents, first = vectors(B), vectors(9, 1), firsts(COUNTS)
    reference = weighed(queries, documents, first)
    if symmetric:
        reference = (reference + weighed(documents[first], queries, list(range(B)))) / 2
    config = ITCConfig(temperature=T, symmetric=symmetric, hardness=beta, hardness_mean_one=mean_one)
    assert ITC(config)(step(COUNTS)).loss == pytest.approx(reference, rel=1e-5)


def test_no_gradient_passes_through_the_weights():
    config = ITCConfig(temperature=1.0, symmetric=False, hardness=2.0)
    queries = vectors(B).requires_grad_()
    ITC(config)(step(queries=queries)).loss.backward()
    scores = (vectors(B) @ vectors(12, 1).T).requires_grad_()
    weights = torch.exp(2.0 * scores.detach())
    weights[torch.arange(B), torch.arange(B) * K] = 1
    terms = weights * scores.exp()
    positive = scores[torch.arange(B), torch.arange(B) * K]
    (terms.sum(1).log() - positive).mean().backward()
    assert torch.allclose(queries.grad, scores.grad @ vectors(12, 1), atol=1e-6)


def test_a_row_without_negatives_has_no_loss_with_any_weights():
    config = ITCConfig(temperature=T, symmetric=False, hardness=3.0, hardness_mean_one=True, mask_margin=-5.0)
    assert ITC(config)(step(COUNTS)).loss == pytest.approx(0.0, abs=1e-6)


# Leading dimensions


@pytest.mark.parametrize("symmetric", [False, True])
def test_matryoshka_adds_the_loss_of_each_prefix_at_unit_length(symmetric):
    reference = slow_both if symmetric else slow
    config = ITCConfig(temperature=T, symmetric=symmetric, matryoshka=[2, 4], matryoshka_weights=[0.5, 0.25])
    queries, documents, first = vectors(B), vectors(9, 1), firsts(COUNTS)
    parts = [
        weight * reference(queries, documents, first, width=width) for width, weight in ((D, 1), (2, 0.5), (4, 0.25))
    ]
    assert ITC(config)(step(COUNTS)).loss == pytest.approx(sum(parts), rel=1e-5)


def test_a_prefix_wider_than_the_embedding_is_refused():
    with pytest.raises(ConfigError, match="matryoshka: 9 of 8 numbers an embedding; want at most 8"):
        ITC(ITCConfig(temperature=T, matryoshka=[9]))(step())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hardness": -1.0}, "hardness must be >= 0"),
        ({"mask_ratio": 0.0}, "mask_ratio must be > 0"),
        ({"hardness_mean_one": True}, "set hardness beside it"),
        ({"matryoshka": [0]}, r"dimensions must be >= 1 and weights > 0, got \[0\], \[\]"),
        ({"matryoshka": [8], "matryoshka_weights": [0.0]}, r"weights > 0, got \[8\], \[0.0\]"),
        ({"matryoshka": [8, 4], "matryoshka_weights": [0.5]}, "matryoshka_weights has 1 weights for 2 dimensions"),
        (
            {"gradient": "local", "mask_false_negatives": False, "mask_margin": 0.1, "matryoshka": [2]},
            "gradient: local reproduces a code without mask_margin, matryoshka",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ITCConfig(temperature=0.1, **settings)
