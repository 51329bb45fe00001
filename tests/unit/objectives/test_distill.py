import math

import pytest
import torch

from mmret.errors import ConfigError
from mmret.objectives import OBJECTIVES, KLDistillation, KLDistillationConfig, MarginMSE, MarginMSEConfig, Step
from mmret.types import Batch, Embeddings, Inputs

QUERIES = [[1.0, 0.0], [0.0, 1.0]]
DOCUMENTS = [[1.0, 0.0], [0.5, 0.0], [0.0, 2.0], [0.0, 0.25]]  # own scores: [1, 0.5], [2, 0.25]
NAN = math.nan


class Dot:
    """Scores by inner product."""

    def score(self, queries, documents):
        return queries.vectors @ documents.vectors.T


def step(teacher, documents=DOCUMENTS, num_documents=2, queries=None):
    queries = torch.tensor(QUERIES) if queries is None else queries
    batch = Batch(
        Inputs({"x": torch.zeros(len(queries))}),
        Inputs({"x": torch.zeros(len(documents))}),
        num_documents,
        teacher_scores=None if teacher is None else torch.tensor(teacher),
        sources=("toy",) * len(queries),
    )
    return Step(Dot(), batch, queries=Embeddings(queries), documents=Embeddings(torch.tensor(documents)))


def softmax(*values):
    total = sum(math.exp(value) for value in values)
    return [math.exp(value) / total for value in values]


def divergence(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q))


def test_kl_by_hand():
    loss = KLDistillation(KLDistillationConfig())(step([[3.0, 1.0], [0.0, 4.0]])).loss
    expected = (divergence(softmax(3, 1), softmax(1, 0.5)) + divergence(softmax(0, 4), softmax(2, 0.25))) / 2
    assert loss == pytest.approx(expected)


def test_kl_temperatures_divide_each_sides_scores():
    config = KLDistillationConfig(temperature=0.5, teacher_temperature=2.0)
    loss = KLDistillation(config)(step([[3.0, 1.0], [0.0, 4.0]])).loss
    expected = (divergence(softmax(1.5, 0.5), softmax(2, 1)) + divergence(softmax(0, 2), softmax(4, 0.5))) / 2
    assert loss == pytest.approx(expected)


def test_kl_is_zero_when_the_student_scores_as_the_teacher():
    assert KLDistillation(KLDistillationConfig())(step([[11.0, 10.5], [2.0, 0.25]])).loss == pytest.approx(0, abs=1e-6)


def test_kl_leaves_out_documents_and_queries_that_the_teacher_did_not_score():
    documents = [[1.0, 0.0], [0.5, 0.0], [9.0, 0.0], [0.0, 2.0], [0.0, 0.25], [0.0, 9.0]]
    loss = KLDistillation(KLDistillationConfig())(step([[3.0, 1.0, NAN], [NAN, NAN, 1.0]], documents, 3)).loss
    assert loss == pytest.approx(divergence(softmax(3, 1), softmax(1, 0.5)))


def test_margin_mse_by_hand():
    loss = MarginMSE(MarginMSEConfig())(step([[3.0, 1.0], [0.0, 4.0]])).loss
    assert loss == pytest.approx(((0.5 - 2) ** 2 + (1.75 - -4) ** 2) / 2)
    scaled = MarginMSE(MarginMSEConfig(teacher_scale=0.25))(step([[3.0, 1.0], [0.0, 4.0]])).loss
    assert scaled == pytest.approx(((0.5 - 0.5) ** 2 + (1.75 - -1) ** 2) / 2)


def test_margin_mse_is_a_mean_over_the_pairs_that_the_teacher_scored():
    documents = [[1.0, 0.0], [0.5, 0.0], [0.25, 0.0], [0.0, 2.0], [0.0, 0.25], [0.0, 1.0]]
    loss = MarginMSE(MarginMSEConfig())(step([[3.0, 1.0, NAN], [NAN, 4.0, 1.0]], documents, 3)).loss
    assert loss == pytest.approx((0.5 - 2) ** 2)


@pytest.mark.parametrize("objective", [KLDistillation(KLDistillationConfig()), MarginMSE(MarginMSEConfig())])
def test_a_batch_in_which_the_teacher_scored_nothing_gives_zero_loss_and_zero_gradient(objective):
    queries = torch.tensor(QUERIES, requires_grad=True)
    loss = objective(step([[NAN, NAN], [NAN, NAN]], queries=queries)).loss
    loss.backward()
    assert loss == 0
    assert torch.equal(queries.grad, torch.zeros(2, 2))


@pytest.mark.parametrize("objective", [KLDistillation(KLDistillationConfig()), MarginMSE(MarginMSEConfig())])
def test_gradients_are_finite_where_scores_are_missing(objective):
    queries = torch.tensor(QUERIES, requires_grad=True)
    documents = [[1.0, 0.0], [0.5, 0.0], [0.25, 0.0], [0.0, 2.0], [0.0, 0.25], [0.0, 1.0]]
    objective(step([[3.0, 1.0, NAN], [NAN, 4.0, 1.0]], documents, 3, queries)).loss.backward()
    assert queries.grad.isfinite().all() and queries.grad.abs().sum() > 0


def test_agreement_counts_queries_with_the_same_best_document():
    metrics = KLDistillation(KLDistillationConfig())(step([[3.0, 1.0], [0.0, 4.0]])).metrics
    assert metrics["agreement"] == 0.5


def test_a_source_without_scores_is_told_what_it_lacks():
    with pytest.raises(ConfigError, match=r"rows of toy bring none.*one number per positive, then one per negative"):
        MarginMSE(MarginMSEConfig())(step(None))


def test_teacher_scores_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"teacher_scores \[1, 2\], want \[2, 2\]"):
        step([[1.0, 2.0]])


def test_settings_that_make_no_sense_are_refused_and_the_names_are_in_the_table():
    with pytest.raises(ConfigError, match="teacher_temperature"):
        KLDistillationConfig(teacher_temperature=0)
    with pytest.raises(ConfigError, match="teacher_scale"):
        MarginMSEConfig(teacher_scale=-1)
    assert all(OBJECTIVES[name].Config().name == name for name in ("kl_distillation", "margin_mse"))
