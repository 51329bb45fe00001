import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from mmret.errors import ConfigError
from mmret.objectives import Classify, ClassifyConfig, Step
from mmret.types import Batch, Inputs
from tests.unit.models.vlmo.toys import pictures, texts, toy_model


def step_of(model, targets, image=None):
    return Step(model, Batch(Inputs({**texts().dense, "targets": targets}), image or pictures(), 1))


def test_soft_scores_are_summed_over_answers_and_averaged_over_rows():
    model = toy_model()
    objective = Classify.for_model(ClassifyConfig(num_classes=4), model)
    targets = torch.tensor([[1.0, 0, 0.3, 0], [0, 0, 0, 0], [0, 0.6, 0, 0]])
    output = objective(step_of(model, targets))
    logits = objective.head(model.encode_pair(texts(), pictures()).pooled)
    each = binary_cross_entropy_with_logits(logits, targets, reduction="none")
    torch.testing.assert_close(output.loss, each.sum(1).mean())
    best = logits.argmax(1)
    assert output.metrics["accuracy"] == pytest.approx(sum(float(targets[i, best[i]]) for i in range(3)) / 3)


def test_two_pictures_are_read_apart_and_judged_together():
    model = toy_model(image_types=2)
    objective = Classify.for_model(ClassifyConfig(num_classes=2, images=2), model)
    left, right = pictures().dense["pixel_values"], pictures(seed=1).dense["pixel_values"]
    both = Inputs({"pixel_values": torch.stack([left, right], 1)})
    labels = torch.tensor([1, 0, 1])
    kinds = [Inputs({"pixel_values": p, "image_type": torch.full((3,), k)}) for k, p in ((1, left), (2, right))]
    logits = objective.head(torch.cat([model.encode_pair(texts(), image).pooled for image in kinds], 1))
    torch.testing.assert_close(objective(step_of(model, labels, both)).loss, cross_entropy(logits, labels))
    with pytest.raises(ConfigError, match="two pictures each"):
        objective(step_of(model, labels))


def test_another_answer_vocabulary_is_refused():
    model = toy_model()
    objective = Classify.for_model(ClassifyConfig(num_classes=4), model)
    with pytest.raises(ConfigError, match="scores for 3 classes, the objective has num_classes = 4"):
        objective(step_of(model, torch.zeros(3, 3)))
