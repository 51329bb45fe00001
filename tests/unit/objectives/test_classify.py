import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from mmret.errors import ConfigError
from mmret.objectives import Classify, ClassifyConfig, Step
from mmret.types import Batch, Inputs
from tests.unit.models.vlmo.toys import pictures, texts, toy_model


def step_of(model, targets, image=None, text=True):
    """A batch of rows that bring all they need in the query: no documents."""
    words = texts().dense if text else {}
    return Step(model, Batch(Inputs({**words, **(image or pictures()).dense}), None, 0, targets=targets))


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
    with pytest.raises(ConfigError, match="images: 2 needs rows with two pictures each"):
        objective(step_of(model, labels))
    with pytest.raises(ConfigError, match="images: 1 needs rows with one picture each"):
        Classify.for_model(ClassifyConfig(num_classes=2), model)(step_of(model, labels, both))


def test_two_pictures_need_a_model_that_tells_them_apart():
    with pytest.raises(ConfigError, match=r"set model.image_types: 2"):
        Classify.for_model(ClassifyConfig(num_classes=2, images=2), toy_model())


def test_a_picture_alone_is_judged_by_the_mean_of_its_patches():
    model = toy_model()
    objective = Classify.for_model(ClassifyConfig(num_classes=5, input="image"), model)
    assert {name for name, _ in objective.named_parameters()} == {"output.weight", "output.bias"}
    labels = torch.tensor([4, 0, 2])
    states = model.encode_image(pictures())
    assert states.shape[1] == 1 + (model.config.image_px // model.config.patch_px) ** 2
    logits = objective.output(torch.stack([row[1:].sum(0) / (len(row) - 1) for row in states]))
    torch.testing.assert_close(objective(step_of(model, labels, text=False)).loss, cross_entropy(logits, labels))
    # A text in the row changes nothing, nor do its experts get a gradient.
    torch.testing.assert_close(objective.logits(step_of(model, labels)), logits)
    objective(step_of(model, labels)).loss.backward()
    touched = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(".experts.image." in name for name in touched) and not any(".experts.text." in name for name in touched)


def test_smoothing_gives_a_share_of_the_target_to_all_classes():
    model = toy_model()
    plain = Classify.for_model(ClassifyConfig(num_classes=4), model)
    smooth = Classify.for_model(ClassifyConfig(num_classes=4, smoothing=0.2), model)
    smooth.load_state_dict(plain.state_dict())
    step = step_of(model, torch.tensor([3, 1, 0]))
    everywhere = -plain.logits(step).log_softmax(1).mean()
    torch.testing.assert_close(smooth(step).loss, 0.8 * plain(step).loss + 0.2 * everywhere)


def test_an_untrained_head_is_near_the_loss_of_guessing():
    model = toy_model()
    objective = Classify.for_model(ClassifyConfig(num_classes=4), model)
    assert objective(step_of(model, torch.tensor([3, 1, 0]))).loss.item() == pytest.approx(math.log(4), abs=0.2)


def test_another_answer_vocabulary_is_refused():
    model = toy_model()
    objective = Classify.for_model(ClassifyConfig(num_classes=4), model)
    with pytest.raises(ConfigError, match="scores for 3 classes, the objective has num_classes = 4"):
        objective(step_of(model, torch.zeros(3, 3)))


def test_rows_that_lack_what_the_head_reads_are_refused():
    model = toy_model()
    objective = Classify.for_model(ClassifyConfig(num_classes=4), model)
    with pytest.raises(ConfigError, match="this batch has none; give each sample `label`"):
        objective(step_of(model, None))
    with pytest.raises(ConfigError, match="input: pair reads a text, and these rows have none"):
        objective(step_of(model, torch.tensor([0, 1, 2]), text=False))
    with pytest.raises(ConfigError, match="input: pair reads a picture, and these rows have none"):
        objective(Step(model, Batch(texts(), None, 0, targets=torch.tensor([0, 1, 2]))))


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"input": "text"}, "input must be pair or image, got 'text'"),
        ({"images": 3}, "images must be 1, or 2 with input: pair; got 3"),
        ({"images": 2, "input": "image"}, "got 2 with input: image"),
        ({"num_classes": 1}, "num_classes must be at least 2, got 1"),
        ({"smoothing": 1.0}, "smoothing must be in"),
    ],
)
def test_impossible_heads_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        ClassifyConfig(**{"num_classes": 3, **wrong})
