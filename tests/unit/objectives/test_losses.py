import math

import pytest
import torch

from mmret.errors import ConfigError
from mmret.objectives import ITC, HardNegative, HardNegativeConfig, ITCConfig, Step
from mmret.types import Batch, Embeddings, Inputs
from tests.builders import known_positives


class Dot:
    """Scores by inner product; encodes nothing."""

    def score(self, queries, documents):
        return queries.vectors @ documents.vectors.T


def step(queries, documents, num_documents=1, ids=None, positives=None):
    rows = Inputs({"x": torch.zeros(len(queries))})
    batch = Batch(
        rows,
        Inputs({"x": torch.zeros(len(documents))}),
        num_documents,
        document_ids=None if ids is None else torch.tensor(ids),
        positive_ids=None if positives is None else known_positives(positives),
    )
    return Step(Dot(), batch, queries=Embeddings(torch.tensor(queries)), documents=Embeddings(torch.tensor(documents)))


QUERIES = [[1.0, 0.0], [0.0, 1.0]]
DOCUMENTS = [[1.0, 0.0], [0.5, 0.0], [0.0, 2.0], [0.0, 0.25]]  # positive, negative, positive, negative


def softmax_loss(target, *others):
    return -math.log(math.exp(target) / sum(math.exp(x) for x in (target, *others)))


def test_in_batch_loss_by_hand():
    loss = HardNegative(HardNegativeConfig())(step(QUERIES, DOCUMENTS, 2)).loss
    assert loss == pytest.approx((softmax_loss(1, 0.5, 0, 0) + softmax_loss(2, 0.25, 0, 0)) / 2)


def test_pairwise_loss_sees_only_own_documents():
    loss = HardNegative(HardNegativeConfig(in_batch=False))(step(QUERIES, DOCUMENTS, 2)).loss
    assert loss == pytest.approx((softmax_loss(1, 0.5) + softmax_loss(2, 0.25)) / 2)


def test_temperature_divides_scores():
    loss = HardNegative(HardNegativeConfig(temperature=0.5))(step(QUERIES, DOCUMENTS, 2)).loss
    assert loss == pytest.approx((softmax_loss(2, 1, 0, 0) + softmax_loss(4, 0.5, 0, 0)) / 2)


def test_known_positives_of_the_query_are_left_out_and_switchable():
    known = {"ids": [1, 2, 3, 4], "positives": [[1, 2], [3]]}  # document 2 answers query 0 too
    masked = HardNegative(HardNegativeConfig())(step(QUERIES, DOCUMENTS, 2, **known)).loss
    assert masked == pytest.approx((softmax_loss(1, 0, 0) + softmax_loss(2, 0.25, 0, 0)) / 2)
    reference = HardNegative(HardNegativeConfig(mask_false_negatives=False))(step(QUERIES, DOCUMENTS, 2, **known)).loss
    assert reference == pytest.approx((softmax_loss(1, 0.5, 0, 0) + softmax_loss(2, 0.25, 0, 0)) / 2)


def test_itc_both_ways_by_hand():
    documents = [[1.0, 0.5], [0.0, 2.0]]
    loss = ITC(ITCConfig(temperature=0.5))(step(QUERIES, documents)).loss
    forward = (softmax_loss(2, 0) + softmax_loss(4, 1)) / 2
    backward = (softmax_loss(2, 1) + softmax_loss(4, 0)) / 2
    assert loss == pytest.approx((forward + backward) / 2)
    one_way = ITC(ITCConfig(temperature=0.5, symmetric=False))(step(QUERIES, documents)).loss
    assert one_way == pytest.approx(forward)


def test_itc_reverse_leaves_out_queries_with_the_same_target():
    loss = ITC(ITCConfig(temperature=1.0))(
        step(QUERIES, [[1.0, 0.5], [1.0, 0.5]], ids=[4, 4], positives=[[4], [4]])
    ).loss
    assert loss == pytest.approx(0.0)  # nothing is left to confuse either way


def test_learnt_temperature_gets_gradient_and_stays_in_its_range():
    objective = ITC(ITCConfig(temperature=0.07, learn_temperature=True))
    output = objective(step(QUERIES, [[1.0, 0.5], [0.0, 2.0]]))
    output.loss.backward()
    assert objective.logit_scale.grad.abs() > 0
    assert output.metrics["temperature"] == pytest.approx(0.07)
    objective.logit_scale.data.fill_(50.0)
    assert objective(step(QUERIES, [[1.0, 0.5], [0.0, 2.0]])).metrics["temperature"] == pytest.approx(0.01)


def test_accuracy_counts_queries_whose_positive_is_first():
    metrics = HardNegative(HardNegativeConfig())(
        step(QUERIES, [[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.0, 0.0]], 2)
    ).metrics
    assert metrics["accuracy"] == 0.5


def test_each_value_of_a_step_is_computed_once():
    made = []

    class Model(Dot):
        def encode_query(self, inputs):
            made.append("query")
            return Embeddings(torch.eye(2))

        def encode_document(self, inputs):
            made.append("document")
            return Embeddings(torch.eye(2))

    rows = Inputs({"x": torch.zeros(2)})
    one = Step(Model(), Batch(rows, rows, 1))
    HardNegative(HardNegativeConfig())(one)
    ITC(ITCConfig(temperature=1.0))(one)
    assert made == ["query", "document"]


def test_temperature_of_zero_is_refused():
    with pytest.raises(ConfigError, match="temperature"):
        HardNegativeConfig(temperature=0.0)
