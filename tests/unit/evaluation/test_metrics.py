import math
import random

import pytest
import torch

from mmret.errors import ConfigError
from mmret.evaluation.judged import Judged, Pool
from mmret.evaluation.metrics import (
    build_metric,
    build_metrics,
    mrr,
    ndcg,
    precision_at_k,
    pseudo_recall_at_k,
    recall_at_k,
)

# Three queries, four places: found at 2 and 4 (3 relevant in all); never found (1); found first (1).
JUDGED = Judged(
    relevant=torch.tensor([[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]).bool(),
    num_relevant=torch.tensor([3, 1, 1]),
    answered=torch.tensor([[0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]).bool(),
    has_answers=torch.tensor([True, True, False]),
)


def test_recall_is_a_hit_rate():
    assert recall_at_k(JUDGED, 1).tolist() == [0, 0, 1]
    assert recall_at_k(JUDGED, 2).tolist() == [1, 0, 1]
    assert recall_at_k(JUDGED, 100).tolist() == [1, 0, 1]


def test_precision_counts_empty_places_as_wrong():
    assert precision_at_k(JUDGED, 2).tolist() == [0.5, 0, 0.5]
    assert precision_at_k(JUDGED, 8).tolist() == [0.25, 0, 0.125]


def test_mrr_takes_the_first_relevant_place_within_the_cut_off():
    assert mrr(JUDGED).tolist() == [0.5, 0, 1]
    assert mrr(JUDGED, 1).tolist() == [0, 0, 1]


def test_ndcg_by_hand():
    gain = 1 / math.log2(3) + 1 / math.log2(5)
    best = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    torch.testing.assert_close(ndcg(JUDGED, 4), torch.tensor([gain / best, 0, 1], dtype=torch.float64))
    # Only two places to fill, so the best possible ranking has two of the three.
    expected = (1 / math.log2(3)) / (1 + 1 / math.log2(3))
    torch.testing.assert_close(ndcg(JUDGED, 2)[0], torch.tensor(expected, dtype=torch.float64))


def test_pseudo_recall_leaves_queries_without_answers_out_of_the_mean():
    assert pseudo_recall_at_k(JUDGED, 2).tolist()[:2] == [0, 1]
    assert pseudo_recall_at_k(JUDGED, 2)[2].isnan()
    metric = build_metric("pseudo_recall@2")
    metric.update(JUDGED)
    assert metric.compute() == 0.5


def test_means_do_not_depend_on_how_queries_are_split_into_updates():
    names = ["recall@1", "recall@2", "pseudo_recall@3", "mrr", "ndcg@3", "precision@1"]
    whole, parts = build_metrics(names), build_metrics(names)
    whole.update(JUDGED)
    parts.update(JUDGED.select(slice(0, 1)))
    parts.update(JUDGED.select(torch.tensor([1, 2])))
    assert parts.compute() == whole.compute()
    assert whole.compute()["recall@2"] == pytest.approx(2 / 3)
    assert whole.compute()["mrr"] == 0.5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("recal@5", "unknown metric 'recal@5'.*Did you mean recall"),
        ("accuracy", "unknown metric 'accuracy'.*known: recall, pseudo_recall"),
        ("recall", "needs a cut-off, as in recall@5"),
        ("recall@0", "whole number above 0"),
        ("ndcg@ten", "whole number above 0"),
    ],
)
def test_a_wrong_metric_name_is_refused_with_what_is_known(name, message):
    with pytest.raises(ConfigError, match=message):
        build_metrics(["mrr", name])


@pytest.mark.parametrize("name", ["recall@3", "precision@3", "mrr", "mrr@2", "ndcg@3", "pseudo_recall@2"])
def test_chance_formula_agrees_with_simulated_rankings(name):
    documents, depth, relevant, answering, draws = 12, 6, 3, 4, 20_000
    rng = random.Random(0)
    rankings = torch.tensor([rng.sample(range(documents), depth) for _ in range(draws)])
    judged = Judged(
        rankings < relevant,
        torch.full((draws,), relevant),
        rankings >= documents - answering,
        torch.ones(draws, dtype=torch.bool),
    )
    simulated = build_metric(name).per_query(judged)
    pool = Pool(documents, depth, torch.tensor([relevant]), torch.tensor([answering]), torch.tensor([True]))
    expected = float(build_metric(name).by_chance(pool))
    assert abs(expected - simulated.mean()) < 4 * simulated.std() / math.sqrt(draws)


def test_chance_by_hand():
    pool = Pool(4, 100, torch.tensor([1, 2, 4]))
    assert build_metric("recall@1").by_chance(pool).tolist() == pytest.approx([1 / 4, 2 / 4, 1])
    # C(2, 2) / C(4, 2) = 1 / 6 misses both of two relevant documents.
    assert build_metric("recall@2").by_chance(pool).tolist() == pytest.approx([1 / 2, 5 / 6, 1])
    assert build_metric("mrr").by_chance(pool)[0] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert build_metric("recall@9").by_chance(pool).tolist() == pytest.approx([1, 1, 1])
