"""What cannot work is refused where it comes in: what, where, what was expected, what to do."""

import pytest
import torch

from mmret.errors import CheckpointError, ConfigError
from mmret.models import VLMo, VLMoConfig
from mmret.objectives import Classify, ClassifyConfig, load_objectives, save_objectives
from mmret.objectives.step import Step
from mmret.training.handover import hand_over, hand_over_objectives
from mmret.types import Batch, Inputs
from tests.unit.models.vlmo.toys import pictures, published, texts, toy_model


@pytest.mark.parametrize("px, nearest", [(225, "224 or 240"), (8, "16 or 32")])
def test_a_picture_is_a_whole_number_of_patches(px, nearest):
    with pytest.raises(
        ConfigError, match=rf"image_px must be a multiple of patch_px = 16, got {px}; nearest: {nearest}"
    ):
        VLMoConfig(image_px=px)


def test_a_text_has_no_more_tokens_than_the_relative_table_has_rows_for():
    with pytest.raises(ConfigError, match=r"max_text_tokens 197 is more .* \(relative_text_span 196\)"):
        VLMoConfig(max_text_tokens=197)
    VLMoConfig(max_text_tokens=196)


@pytest.mark.parametrize("positions", ["relative", "absolute"])
@pytest.mark.parametrize("fused", [False, True])
def test_a_batch_of_longer_texts_than_the_model_has_positions_is_refused(positions, fused):
    model, long = toy_model(positions=positions), texts((12, 3, 4))
    with pytest.raises(ConfigError, match=r"a text of 12 tokens, but the model has 9 text positions; raise"):
        model.encode_pair(long, pictures()) if fused else model.encode(long)


def test_a_checkpoint_with_fewer_absolute_text_positions_than_asked_for_is_refused(tmp_path):
    torch.save(published(toy_model(positions="absolute")), tmp_path / "vlmo.pt")
    known = {"heads": 2, "tokenizer": "tiny"}
    with pytest.raises(
        CheckpointError, match=r"9 text positions, model\.max_text_tokens asks for 12; set it to at most"
    ):
        VLMo.load(tmp_path / "vlmo.pt", **known, max_text_tokens=12)
    assert VLMo.load(tmp_path / "vlmo.pt", **known, max_text_tokens=7).encode(texts((7,))).vectors.isfinite().all()


OTHER = [
    ({"width": 32}, r"width 16 \(model: 32\)"),
    ({"depth": 4}, r"depth 3 \(model: 4\)"),
    ({"depth": 2}, r"depth 3 \(model: 2\)"),
    ({"heads": 4}, r"heads 2 \(model: 4\)"),
    ({"patch_px": 4}, r"patch_px 8 \(model: 4\)"),
]


@pytest.mark.parametrize("settings, message", OTHER)
def test_a_checkpoint_of_another_size_is_refused_by_stage_folder_and_file(settings, message, tmp_path):
    smaller, larger = toy_model(), toy_model(**settings)
    with pytest.raises(CheckpointError, match=message + ".*set model.size"):
        hand_over(larger, smaller.state_dict(), "previous")
    torch.save(published(smaller), tmp_path / "vlmo.pt")
    with pytest.raises(CheckpointError, match=message):
        larger.start_from(tmp_path / "vlmo.pt")
    smaller.save(tmp_path / "folder")
    with pytest.raises(CheckpointError, match=message):
        VLMo.load(tmp_path / "folder", **settings)


def test_another_vocabulary_of_tokens_is_refused():
    with pytest.raises(CheckpointError, match=r"backbone\.text\.word\.weight: \(300, 16\) there, \(310, 16\) here"):
        hand_over(toy_model(vocabulary=310), toy_model().state_dict(), "previous")


def test_an_answer_vocabulary_that_does_not_match_is_refused(tmp_path):
    """In a stage that starts from another's head, in a stored folder, and in a batch."""
    model = toy_model()
    seven, five = (torch.nn.ModuleDict({"vqa": Classify(ClassifyConfig(num_classes=n), 16)}) for n in (7, 5))
    report = hand_over(toy_model(seed=1), model.state_dict(), "previous")
    with pytest.raises(
        CheckpointError, match=r"objectives\.vqa\.output\.weight: \(7, 32\) there, \(5, 32\) here.*another name"
    ):
        hand_over_objectives(five, seven.state_dict(), report)

    save_objectives(seven, tmp_path)
    (tmp_path / "objectives.json").write_text((tmp_path / "objectives.json").read_text().replace("7", "5"))
    with pytest.raises(CheckpointError, match=r"wrong shape: vqa\.output\.weight is \(7, 32\), expected \(5"):
        load_objectives(tmp_path, model)


def test_two_pictures_are_asked_for_where_one_came():
    model, head = toy_model(image_types=2), Classify(ClassifyConfig(num_classes=2, images=2), 16)
    batch = Batch(Inputs({**texts().dense, **pictures().dense}), None, 1)
    with pytest.raises(ConfigError, match=r"images: 2 needs rows with two pictures each, got \(3, 3, 16, 16\)"):
        head.logits(Step(model, batch))
