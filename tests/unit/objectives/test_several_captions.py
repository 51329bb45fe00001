"""Several captions of one picture in a batch: no caption is a negative of its own picture, whichever side asks."""

import math

import pytest
import torch

from mmret.errors import ConfigError
from mmret.objectives import ITC, ITM, ITCConfig, ITMConfig, Step
from mmret.ops import gather_ids, known_matches
from mmret.types import Batch, Embeddings, Inputs
from tests.builders import known_positives


class Dot:
    def score(self, queries, documents):
        return queries.vectors @ documents.vectors.T


def step(queries, documents, ids, positives, num_documents=1):
    batch = Batch(
        Inputs({"x": torch.zeros(len(queries))}),
        Inputs({"x": torch.zeros(len(documents))}),
        num_documents,
        document_ids=torch.tensor(ids),
        positive_ids=known_positives(positives),
    )
    return Step(Dot(), batch, queries=Embeddings(torch.tensor(queries)), documents=Embeddings(torch.tensor(documents)))


# Rows 0 and 1 are of one picture. Queries and documents have these products, whoever asks:
SIDE = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
OTHER = [[1.0, 0.5], [0.5, 2.0], [0.0, 0.25]]
PRODUCTS = [[1.0, 0.5, 0.0], [0.5, 2.0, 0.25], [1.5, 2.5, 0.25]]
CAPTIONS_ASK = {"ids": [7, 7, 8], "positives": [[7], [7], [8]]}
"""Captions a, b of picture 7 and c of picture 8: the documents are pictures, and 7 stands there twice."""
PICTURES_ASK = {"ids": [70, 71, 80], "positives": [[70, 71, 72], [70, 71, 72], [80]]}
"""Picture 7 asks twice, with caption 70 and with 71; 72 was not drawn."""


def softmax_loss(target, *others):
    return -math.log(math.exp(target) / sum(math.exp(x) for x in (target, *others)))


@pytest.mark.parametrize("rows", [CAPTIONS_ASK, PICTURES_ASK])
def test_the_same_places_are_masked_whichever_side_asks(rows):
    made = step(SIDE, OTHER, **rows)
    expected = [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert made.false_negatives.int().tolist() == expected
    assert made.reverse_false_negatives.int().tolist() == expected


@pytest.mark.parametrize("rows", [CAPTIONS_ASK, PICTURES_ASK])
def test_masked_loss_by_hand(rows):
    loss = ITC(ITCConfig(temperature=1.0))(step(SIDE, OTHER, **rows)).loss
    forward = softmax_loss(1, 0) + softmax_loss(2, 0.25) + softmax_loss(0.25, 1.5, 2.5)
    backward = softmax_loss(1, 1.5) + softmax_loss(2, 2.5) + softmax_loss(0.25, 0, 0.25)
    assert loss == pytest.approx((forward + backward) / 6)


@pytest.mark.parametrize("rows", [CAPTIONS_ASK, PICTURES_ASK])
def test_as_positives_they_share_the_target_evenly_by_hand(rows):
    loss = ITC(ITCConfig(temperature=1.0, multi_positive=True))(step(SIDE, OTHER, **rows)).loss
    both = (softmax_loss(1, 0.5, 0) + softmax_loss(0.5, 1, 0)) / 2
    both += (softmax_loss(0.5, 2, 0.25) + softmax_loss(2, 0.5, 0.25)) / 2
    forward = both + softmax_loss(0.25, 1.5, 2.5)
    columns = list(zip(*PRODUCTS))
    backward = softmax_loss(0.25, 0, 0.25)
    for a, b, c in columns[:2]:
        backward += (softmax_loss(a, b, c) + softmax_loss(b, a, c)) / 2
    assert loss == pytest.approx((forward + backward) / 6)


def test_ignored_they_are_negatives_like_others():
    loss = ITC(ITCConfig(temperature=1.0, mask_false_negatives=False))(step(SIDE, OTHER, **PICTURES_ASK)).loss
    forward = softmax_loss(1, 0.5, 0) + softmax_loss(2, 0.5, 0.25) + softmax_loss(0.25, 1.5, 2.5)
    backward = softmax_loss(1, 0.5, 1.5) + softmax_loss(2, 0.5, 2.5) + softmax_loss(0.25, 0, 0.25)
    assert loss == pytest.approx((forward + backward) / 6)


def test_with_one_caption_a_picture_the_three_ways_are_one():
    rows = {"ids": [1, 2, 3], "positives": [[1], [2], [3]]}
    ways = ({}, {"mask_false_negatives": False}, {"multi_positive": True})
    losses = [float(ITC(ITCConfig(temperature=0.5, **way))(step(SIDE, OTHER, **rows)).loss) for way in ways]
    assert losses[1:] == pytest.approx(losses[:1] * 2)


def test_a_hard_negative_document_that_answers_another_query_is_masked_there_alone():
    """Query 1's second document is the picture that query 0 asks for."""
    made = step([[1.0], [1.0]], [[1.0], [2.0], [3.0], [4.0]], [5, 6, 7, 5], [[5], [7]], num_documents=2)
    assert made.false_negatives.int().tolist() == [[0, 0, 0, 1], [0, 0, 0, 0]]
    assert made.reverse_false_negatives.int().tolist() == [[0, 0], [0, 0]]


def test_a_caption_that_answers_a_query_with_another_target_is_no_negative_there():
    """Query 1 knows query 0's document as a second answer; the other way round nothing is known."""
    made = step([[1.0], [1.0]], [[1.0], [2.0]], [5, 6], [[5], [6, 5]])
    assert made.false_negatives.int().tolist() == [[0, 0], [1, 0]]
    assert made.reverse_false_negatives.int().tolist() == [[0, 1], [0, 0]]


@pytest.mark.parametrize("rows", [CAPTIONS_ASK, PICTURES_ASK])
def test_itm_never_draws_another_caption_of_the_picture(rows):
    for seed in range(30):
        torch.manual_seed(seed)
        drawn = ITM(ITMConfig(temperature=10.0), 2).draw(step(SIDE, OTHER, **rows))
        assert drawn.documents[:2].tolist() == [2, 2] and drawn.queries[:2].tolist() == [2, 2]


def test_ids_of_lists_of_unlike_lengths_are_compared_without_their_filling():
    ids = gather_ids(known_positives([[3], [4, 5, 6], []]))
    assert ids.tolist() == [[3, -1, -1], [4, 5, 6], [-1, -1, -1]]
    assert known_matches(ids, torch.tensor([6, 3, 9])).int().tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]


def test_positives_that_are_ignored_cannot_be_counted():
    with pytest.raises(ConfigError, match="multi_positive counts known matches"):
        ITCConfig(temperature=1.0, multi_positive=True, mask_false_negatives=False)
