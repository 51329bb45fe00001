"""BEiT files by `mmret.load` and as the start of a stage."""

import pytest
import torch

import mmret.models
from mmret.errors import CheckpointError
from mmret.training.handover import hand_over
from tests.unit.models.vlmo.toys import beit, pictures, texts, toy_model

TEXT = {"relative_text_span": 12, "tokenizer": "tiny", "vocabulary": 300, "max_text_tokens": 9}


def test_beit_opens_by_the_same_call(tmp_path):
    torch.save(beit(toy_model(vl_layers=0)), tmp_path / "beit.pth")
    opened = mmret.models.load(tmp_path / "beit.pth", **TEXT)
    assert opened.config.image_px == 16
    assert opened.encode_pair(texts(), pictures()).pooled.isfinite().all()


def test_what_a_beit_file_lacks_or_has_too_much_is_listed(tmp_path):
    state = beit(toy_model(vl_layers=0)) | {"blocks.1.attn.extra": torch.zeros(2)}
    del state["blocks.2.mlp.fc1.bias"], state["cls_token"]
    state["cls_token"] = torch.zeros(1, 1, 16)
    torch.save(state, tmp_path / "beit.pth")
    with pytest.raises(CheckpointError) as error:
        mmret.models.load(tmp_path / "beit.pth", **TEXT)
    lines = str(error.value).splitlines()
    assert "no whole BEiT (2 problems)" in lines[0]
    assert lines[1].strip() == "missing: backbone.blocks.2.experts.image.fc1.bias"
    assert lines[2].strip() == "unknown: blocks.1.attn.extra"


@pytest.mark.parametrize(
    "wanted, message",
    [({"depth": 4}, "3 blocks x 2 heads.*8 columns"), ({"width": 32}, r"width 16 \(model: 32\)")],
)
def test_a_beit_of_another_size_cannot_start_a_model(wanted, message, tmp_path):
    torch.save(beit(toy_model(vl_layers=0)), tmp_path / "beit.pth")
    with pytest.raises(CheckpointError, match="of another size than the model.*" + message):
        toy_model(vl_layers=0, **wanted).start_from(tmp_path / "beit.pth")


def test_a_stage_from_a_beit_file_keeps_its_own_texts(tmp_path):
    """`mmret.load` would have made text parts up; a hand-over must not take them for weights."""
    state = beit(toy_model(vl_layers=0))
    torch.save({"model": state}, tmp_path / "beit.pth")
    model = toy_model(image_px=32)
    report = hand_over(model, model.earlier_state(tmp_path / "beit.pth"), "beit.pth")
    assert not [key for key in report.kept if ".text." in key or "projections" in key]
    assert torch.equal(
        model.state_dict()["backbone.blocks.1.attention.all.qkv.weight"], state["blocks.1.attn.qkv.weight"]
    )
