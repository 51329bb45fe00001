import pytest
import torch
from torch.nn.functional import cross_entropy

from mmret.objectives import MLM, MLMConfig, Step
from mmret.types import Batch, Inputs
from tests.unit.models.vlmo.toys import pictures, texts, toy_model


def masked(places):
    """The toy texts with labels at (row, place) -> token."""
    text = texts()
    labels = torch.full_like(text.dense["input_ids"], -100)
    for (row, place), token in places.items():
        labels[row, place] = token
    return Inputs({**text.dense, "labels": labels})


def test_only_labelled_places_count_and_the_picture_is_read():
    model = toy_model()
    objective = MLM.for_model(MLMConfig(), model)
    text = masked({(0, 2): 7, (2, 4): 9})
    loss = objective(Step(model, Batch(texts(), pictures(), 1, masked_query=text))).loss
    states = model.encode_pair(text, pictures()).text
    expected = cross_entropy(objective.logits(torch.stack([states[0, 2], states[2, 4]])), torch.tensor([7, 9]))
    torch.testing.assert_close(loss, expected)


def test_text_only_never_looks_at_pictures():
    model = toy_model()
    objective = MLM.for_model(MLMConfig(text_only=True), model)
    text = masked({(1, 1): 8})
    loss = objective(Step(model, Batch(texts(), None, 1, masked_query=text))).loss
    expected = cross_entropy(objective.logits(model.encode_text(text)[1, 1][None]), torch.tensor([8]))
    torch.testing.assert_close(loss, expected)


def test_a_batch_without_masked_tokens_costs_nothing_and_still_backpropagates():
    model = toy_model()
    objective = MLM.for_model(MLMConfig(), model)
    output = objective(Step(model, Batch(texts(), pictures(), 1, masked_query=masked({}))))
    output.loss.backward()
    assert output.loss == 0
    assert objective.decoder.weight.grad.abs().sum() == 0
    assert output.metrics["masked_tokens"] == 0


def test_decoder_is_not_tied_to_the_word_embeddings():
    model = toy_model()
    objective = MLM.for_model(MLMConfig(), model)
    assert objective.decoder.weight.data_ptr() != model.backbone.text.word.weight.data_ptr()
    assert objective.decoder.weight.shape == model.backbone.text.word.weight.shape


def test_a_batch_without_masked_texts_says_who_makes_them():
    model = toy_model()
    with pytest.raises(ValueError, match="no masked texts"):
        MLM.for_model(MLMConfig(), model)(Step(model, Batch(texts(), pictures(), 1)))
