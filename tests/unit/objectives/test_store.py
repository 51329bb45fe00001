"""Heads beside their model: of our folders and of published files."""

import json

import pytest
import torch

from mmret.errors import CheckpointError
from mmret.models.vlmo import from_published
from mmret.objectives import ITC, ITCConfig, load_objectives, save_objectives, stored_state
from tests.unit.models.vlmo.toys import published, toy_model


def test_a_published_file_says_its_objectives_by_its_shapes(tmp_path):
    model = toy_model(image_types=2)
    state = published(model)
    torch.save({"state_dict": state}, tmp_path / "vlmo.pt")
    objectives = load_objectives(tmp_path / "vlmo.pt", model)
    assert {name: type(one).__name__ for name, one in objectives.items()} == {
        "itc": "ITC", "itc_vl": "ITC", "itm": "ITM", "mlm": "MLM", "vqa": "Classify", "nlvr2": "Classify"
    }  # fmt: skip
    assert objectives["itc_vl"].config.head == "vl"
    assert (objectives["vqa"].config.num_classes, objectives["vqa"].config.images) == (7, 1)
    assert (objectives["nlvr2"].config.num_classes, objectives["nlvr2"].config.images) == (2, 2)
    stored = from_published(state).objectives
    assert stored.keys() == objectives.state_dict().keys()
    assert all(torch.equal(value, stored[key]) for key, value in objectives.state_dict().items())


def test_a_temperature_beyond_clips_clamp_is_used_as_it_was_learnt(tmp_path):
    """exp(5.1) = 164 > 100: the released code never clamps."""
    model = toy_model(image_types=2)
    torch.save(published(model), tmp_path / "vlmo.pt")
    objectives = load_objectives(tmp_path / "vlmo.pt", model)
    assert objectives["itc_vl"].scale.item() == pytest.approx(164.02, abs=0.01)


def test_what_is_saved_comes_back(tmp_path):
    objectives = torch.nn.ModuleDict({"itc": ITC(ITCConfig(temperature=0.05, learn_temperature=True))})
    save_objectives(objectives, tmp_path)
    loaded = load_objectives(tmp_path, toy_model())
    assert loaded["itc"].config == objectives["itc"].config
    assert torch.equal(loaded["itc"].logit_scale, objectives["itc"].logit_scale)
    assert stored_state(tmp_path).keys() == {"itc.logit_scale"}


def test_a_folder_without_objectives_has_none(tmp_path):
    assert len(load_objectives(tmp_path, toy_model())) == 0
    assert stored_state(tmp_path) == {}


@pytest.mark.parametrize(
    "configs, message",
    [
        ({"x": {"name": "itd"}}, "x: unknown objective 'itd'; known: .*itc"),
        ({"itc": {"name": "itc", "warmth": 3}}, "itc: .*warmth"),
        ({"itc": {"name": "itc", "temperature": 0.07, "learn_temperature": True}}, r"missing: itc\.logit_scale"),
    ],
)
def test_stored_objectives_that_cannot_be_are_refused(configs, message, tmp_path):
    (tmp_path / "objectives.json").write_text(json.dumps(configs))
    with pytest.raises(CheckpointError, match=message):
        load_objectives(tmp_path, toy_model())
