import pytest
import torch

import mmret.models
from mmret.errors import CheckpointError, ConfigError
from mmret.models import VLMo
from mmret.models.vlmo import from_published, to_published
from mmret.models.vlmo.convert import IGNORED
from mmret.objectives import ITM, MLM, ITMConfig, MLMConfig
from tests.unit.models.vlmo.toys import beit, published, toy_model

KNOWN = {"heads": 2, "relative_text_span": 12, "tokenizer": "tiny"}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize("settings", [{}, {"positions": "absolute", "layer_scale": 0.0}, {"vl_layers": 0}])
def test_published_names_go_round_bit_for_bit(settings):
    state = published(toy_model(**settings))
    parts = from_published(state)
    assert not parts.unknown
    assert same(to_published(parts.model, parts.objectives), state)


def test_base_has_the_entries_that_the_released_pretraining_model_has():
    """293 of them, read off by running the released code."""
    model = VLMo.skeleton(mmret.models.VLMoConfig())
    heads = {"itm": ITM(ITMConfig(), 4), "mlm": MLM(MLMConfig(), 4, 5)}
    objectives = {f"{name}.{key}": value for name, head in heads.items() for key, value in head.state_dict().items()}
    objectives |= {"itc.logit_scale": torch.zeros(()), "itc_vl.logit_scale": torch.zeros(())}
    state = to_published(model.state_dict(), objectives)
    assert len(state) == 293
    assert state["relative_position_bias_table"].shape == (1126, 144)
    assert state["transformer.blocks.11.mlp_vl.fc1.weight"].shape == (3072, 768)
    assert "transformer.blocks.9.mlp_vl.fc1.weight" not in state


@pytest.mark.parametrize("container", ["bare", "state_dict", "module", "model", "prefixed"])
def test_every_container_of_a_weight_file_opens(container, tmp_path):
    model = toy_model()
    state = published(model) | {
        "relative_position_index": torch.zeros(5, 5).long(),
        "train_vqa_score.total": torch.ones(()),
    }
    content = {
        "bare": state,
        "state_dict": {"state_dict": state, "epoch": 3},
        "module": {"module": state, "dp_world_size": 8},
        "model": {"model": state},
        "prefixed": {"module": {f"module.{key}": value for key, value in state.items()}},
    }[container]
    torch.save(content, tmp_path / "vlmo.pt")
    opened = mmret.models.load(tmp_path / "vlmo.pt", **KNOWN)
    assert same(opened.state_dict(), model.state_dict())
    assert not opened.training


def test_code_in_a_weight_file_is_never_run(tmp_path):
    torch.save({"state_dict": published(toy_model()), "loop": pytest.Item}, tmp_path / "vlmo.pt")
    with pytest.raises(CheckpointError, match="never executed"):
        VLMo.load(tmp_path / "vlmo.pt", **KNOWN)


def test_missing_and_unknown_entries_are_all_listed(tmp_path):
    state = published(toy_model())
    del state["pooler.dense.bias"], state["transformer.norm.weight"]
    torch.save(state | {"transformer.extra": torch.zeros(2)}, tmp_path / "vlmo.pt")
    with pytest.raises(CheckpointError) as error:
        VLMo.load(tmp_path / "vlmo.pt", **KNOWN)
    text = str(error.value)
    assert "3 problems" in text
    for line in ("missing: pooler.bias", "missing: backbone.norm.weight", "unknown: transformer.extra"):
        assert line in text


def test_a_checkpoint_of_another_size_is_refused(tmp_path):
    torch.save(published(toy_model()), tmp_path / "vlmo.pt")
    with pytest.raises(CheckpointError, match=r"\(tiny\): width 16 \(model: 32\); set model\.size"):
        VLMo.load(tmp_path / "vlmo.pt", **KNOWN, width=32)
    with pytest.raises(CheckpointError, match="neither a VLMo nor a BEiT"):
        torch.save({"x": torch.zeros(1)}, tmp_path / "other.pt")
        VLMo.load(tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="fits no square picture"):
        VLMo.load(tmp_path / "vlmo.pt", **{**KNOWN, "relative_text_span": 11})


def test_overrides_are_settings(tmp_path):
    toy_model().save(tmp_path)
    with pytest.raises(ConfigError, match="Did you mean image_px"):
        VLMo.load(tmp_path, image_pix=3)


def test_a_retrieval_checkpoint_has_one_head_and_a_language_checkpoint_none(tmp_path):
    state = published(toy_model())
    torch.save({key: value for key, value in state.items() if not key.startswith("itc_vl")}, tmp_path / "irtr.pt")
    assert VLMo.load(tmp_path / "irtr.pt", **KNOWN).config.heads_of == ("main",)
    torch.save({key: value for key, value in state.items() if not key.startswith("itc_")}, tmp_path / "vqa.pt")
    assert VLMo.load(tmp_path / "vqa.pt", **KNOWN).config.heads_of == ()


def test_ablations_have_no_place_in_the_published_layout():
    with pytest.raises(CheckpointError, match="neither a standard transformer"):
        to_published(toy_model(multiway=False).state_dict())


@pytest.mark.parametrize(
    "key", ["train_loss.scalar", "val_irtr_r1", "text_embeddings.position_ids", "relative_position_index"]
)
def test_metric_states_and_index_tables_are_ignored(key):
    assert IGNORED.search(key)


@pytest.mark.parametrize("shared", [False, True])
def test_beit_starts_pictures_and_attention_and_nothing_else(shared, tmp_path):
    model = toy_model(vl_layers=0)
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, beit(model, shared)
    torch.save({"model": state}, tmp_path / "beit.pth")
    report = model.start_from(tmp_path / "beit.pth")
    after = model.state_dict()
    assert report["unused"] == []
    assert torch.equal(after["backbone.blocks.1.experts.image.fc2.weight"], state["blocks.1.mlp.fc2.weight"])
    assert torch.equal(after["backbone.blocks.2.attention.all.q_bias"], state["blocks.2.attn.q_bias"])
    table = after["backbone.positions.table"]
    name = "rel_pos_bias" if shared else "blocks.1.attn"
    assert torch.equal(table[:12, 2:4], state[f"{name}.relative_position_bias_table"])
    assert torch.equal(table[12:], before["backbone.positions.table"][12:])
    assert all(torch.equal(after[key], before[key]) for key in report["fresh"])
    fresh = {key.split(".")[1] for key in report["fresh"]}
    assert "backbone.image.cls" not in report["fresh"]
    assert fresh >= {"text", "modality", "norm"}


@pytest.mark.parametrize("gone", ["itm_score.fc.bias", "mlm_score.transform.LayerNorm.weight", "vqa_classifier.3.bias"])
def test_half_a_head_is_named(gone, tmp_path):
    state = published(toy_model())
    del state[gone]
    torch.save(state, tmp_path / "vlmo.pt")
    with pytest.raises(CheckpointError, match=f"heads in part; missing: {gone}"):
        VLMo.load(tmp_path / "vlmo.pt", **KNOWN)


def test_what_no_head_has_is_unknown():
    assert "itm_score.fc.scale" in from_published({"itm_score.fc.scale": torch.zeros(1)}).unknown
