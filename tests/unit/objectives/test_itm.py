import pytest
import torch
from torch.nn.functional import cross_entropy

from mmret.errors import ConfigError
from mmret.objectives import ITM, ITMConfig, Step
from mmret.objectives.itm import Drawn, negative_weights
from mmret.types import Batch, Embeddings
from tests.unit.models.vlmo.toys import pictures, texts, toy_model


def test_the_draw_is_the_released_one():
    """There: the softmax over all, the target's weight set to 0; multinomial normalises."""
    logits = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    released = logits.softmax(1)
    released[0, 0] = released[1, 2] = 0
    weights = negative_weights(logits, torch.tensor([0, 2]), None)
    torch.testing.assert_close(weights, released / released.sum(1, keepdim=True))


def test_a_draw_never_fails_when_the_match_takes_all_probability():
    """The released code's multinomial raises here: all its weights are 0."""
    logits = torch.eye(3) * 1e4
    weights = negative_weights(logits, torch.arange(3), None)
    assert (weights.diagonal() == 0).all()
    drawn = torch.multinomial(weights, 1).squeeze(1)
    assert (drawn != torch.arange(3)).all()


def test_known_matches_are_not_drawn_unless_nothing_else_is_left():
    mask = torch.tensor([[False, True, False], [True, False, True]])
    weights = negative_weights(torch.zeros(2, 3), torch.tensor([0, 1]), mask)
    assert (weights[0] > 0).tolist() == [False, False, True]
    assert (weights[1] > 0).tolist() == [True, False, True]


def test_local_negatives_come_from_the_given_columns():
    weights = negative_weights(torch.tensor([[9.0, 0.0, 1.0, 9.0]]), torch.tensor([1]), None, slice(1, 3))
    assert (weights[0] > 0).tolist() == [False, False, True, False]
    assert weights[0, 2] == 1


def test_one_pair_has_no_negative():
    with pytest.raises(ValueError, match="at least two pairs"):
        negative_weights(torch.zeros(1, 1), torch.tensor([0]), None)


@pytest.fixture
def model():
    return toy_model()


def step_of(model, swapped=False, **settings):
    sides = (pictures(), texts()) if swapped else (texts(), pictures())
    return Step(model, Batch(*sides, 1), **settings)


def slow_loss(model, head, text, image, negative_images, negative_texts):
    """Pair by pair."""
    rows, labels = [], []
    pairs = [(i, i, 1) for i in range(3)]
    pairs += [(i, negative_images[i], 0) for i in range(3)]
    pairs += [(negative_texts[i], i, 0) for i in range(3)]
    for t, p, label in pairs:
        rows.append(head(model.encode_pair(text.select([t]), image.select([p])).pooled))
        labels.append(label)
    return cross_entropy(torch.cat(rows), torch.tensor(labels))


@pytest.mark.parametrize("swapped", [False, True])
def test_loss_with_given_negatives_is_pair_by_pair(model, swapped):
    objective = ITM(ITMConfig(), model.width)
    images, words = [1, 2, 0], [2, 0, 1]
    drawn = Drawn(*(torch.tensor(rows) for rows in ((words, images) if swapped else (images, words))))
    loss = objective.loss(step_of(model, swapped), drawn).loss
    torch.testing.assert_close(loss, slow_loss(model, objective.head, texts(), pictures(), images, words))


def test_drawing_is_seeded_and_never_the_match(model):
    objective = ITM(ITMConfig(), model.width)
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append(objective.draw(step_of(model)))
    assert torch.equal(draws[0].documents, draws[1].documents) and torch.equal(draws[0].queries, draws[1].queries)
    for seed in range(20):
        torch.manual_seed(seed)
        drawn = objective.draw(step_of(model))
        assert (drawn.documents != torch.arange(3)).all() and (drawn.queries != torch.arange(3)).all()


def test_the_learnt_temperature_makes_the_draw_harder(model):
    """At 1/temperature 1e4 only the most similar negative is left."""
    vectors = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), dim=1)
    step = step_of(
        model, queries=Embeddings(vectors), documents=Embeddings(vectors), scales={"main": torch.tensor(1e4)}
    )
    drawn = ITM(ITMConfig(), model.width).draw(step)
    assert drawn.documents.tolist() == [1, 0, 1]


def test_of_several_documents_each_may_be_a_negative(model):
    batch = Batch(texts(), pictures(6), 2)
    objective = ITM(ITMConfig(), model.width)
    drawn = Drawn(torch.tensor([1, 5, 0]), torch.tensor([1, 2, 0]))
    loss = objective.loss(Step(model, batch), drawn).loss
    image = pictures(6)
    rows = [objective.head(model.encode_pair(texts(), image.select(pick)).pooled) for pick in ([0, 2, 4], [1, 5, 0])]
    rows.append(objective.head(model.encode_pair(texts().select([1, 2, 0]), image.select([0, 2, 4])).pooled))
    torch.testing.assert_close(loss, cross_entropy(torch.cat(rows), torch.tensor([1] * 3 + [0] * 6)))


def test_a_model_that_cannot_read_pairs_is_refused():
    with pytest.raises(ConfigError, match="reads text and picture together"):
        ITM.for_model(ITMConfig(), torch.nn.Linear(1, 1))


@pytest.mark.parametrize("settings", [{"negatives": "all"}, {"temperature": -1.0}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        ITMConfig(**settings)
