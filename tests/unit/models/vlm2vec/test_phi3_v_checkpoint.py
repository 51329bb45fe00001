"""Phi-3.5-V's files: published names old and new, adapters, configurations."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmret.errors import CheckpointError, ConfigError
from mmret.models import VLM2Vec, VLM2VecConfig, load
from mmret.models.backbones.vlm_phi3_v import Phi3VFamily
from mmret.models.vlm2vec.convert import settings_beside, to_published
from tests.unit.models.vlm2vec.phi3_v import CONTENTS, model_of, vectors


def publish(model, folder, names=("model.embed_tokens.weight",)):
    """Base weights as the model's authors store them, the token table under `names`."""
    folder.mkdir()
    state = {f"model.{key}": value for key, value in model.vlm.state_dict().items()}
    table = state.pop("model.embed_tokens.weight")
    state |= {name: table.clone() for name in names} | {"lm_head.weight": torch.zeros(3, 3)}
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(model.spec.config))
    (folder / "preprocessor_config.json").write_text(json.dumps(model.spec.pictures))
    model.processor.tokenizer.save(folder)


TABLES = ("model.embed_tokens.weight", "model.vision_embed_tokens.wte.weight")


@pytest.mark.parametrize("names", [TABLES[:1], TABLES[1:], TABLES], ids=["first", "second", "both"])
def test_the_token_table_is_read_under_either_of_its_names(names, tmp_path):
    model = model_of()
    publish(model, tmp_path / "published", names)
    assert torch.equal(vectors(load(tmp_path / "published"), CONTENTS), vectors(model, CONTENTS))


def test_two_different_token_tables_are_refused(tmp_path):
    publish(model_of(), tmp_path / "published", TABLES)
    path = tmp_path / "published" / "model.safetensors"
    state = load_file(path)
    state[TABLES[1]][0, 0] += 1
    save_file(state, path)
    with pytest.raises(CheckpointError, match=r"wte\.weight and another .* both embed_tokens\.weight .* differ"):
        load(tmp_path / "published")


LORA = {"type": "lora", "r": 2}
"""VLM2Vec's own list of targets: four fused or named projections of the decoder, four of every CLIP layer."""


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("nested", [True, False], ids=["published", "without vision_model"])
def test_an_adapter_loads_under_published_names_and_under_todays_of_the_tower(kind, nested, tmp_path):
    base = model_of()
    publish(base, tmp_path / "base")
    model = VLM2Vec.from_config(VLM2VecConfig(backbone=str(tmp_path / "base"), peft={**LORA, "type": kind})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".default" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_adapter(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    state = load_file(path)
    assert "base_model.model.model.layers.0.self_attn.qkv_proj.lora_A.weight" in state
    tower = "base_model.model.model.vision_embed_tokens.img_processor.vision_model."
    assert f"{tower}encoder.layers.0.self_attn.q_proj.lora_A.weight" in state
    if not nested:
        save_file({key.replace("vision_model.", ""): value for key, value in state.items()}, path)
    again = load(tmp_path / "adapter")
    expected = vectors(model, CONTENTS)
    assert torch.equal(vectors(again, CONTENTS), expected)
    assert not torch.allclose(vectors(base, CONTENTS), expected, atol=1e-3)
    assert torch.allclose(vectors(again.merged(), CONTENTS), expected, atol=1e-5)


def test_published_again_it_has_the_published_names(tmp_path):
    model = model_of(max_tiles=9)
    publish(model, tmp_path / "published")
    model.save(tmp_path / "ours")
    to_published(load(tmp_path / "ours"), tmp_path / "again")
    first, again = (load_file(tmp_path / name / "model.safetensors") for name in ("published", "again"))
    assert again.keys() == first.keys() - {"lm_head.weight"}
    assert all(torch.equal(again[name], first[name]) for name in again)
    told = settings_beside(model)
    assert told == {"max_tiles": 9}
    assert torch.equal(vectors(load(tmp_path / "again", **told), CONTENTS), vectors(model, CONTENTS))


def test_adapters_are_not_published_as_a_whole_model(tmp_path):
    with pytest.raises(CheckpointError, match="no place for adapters; --merge them"):
        to_published(model_of(peft=LORA), tmp_path / "published")


def test_an_adapter_without_its_last_clip_layer_is_refused(tmp_path):
    publish(model_of(), tmp_path / "base")
    model = VLM2Vec.from_config(VLM2VecConfig(backbone=str(tmp_path / "base"), peft=LORA))
    model.save_adapter(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    state = load_file(path)
    save_file({key: value for key, value in state.items() if ".encoder.layers.2." not in key}, path)
    with pytest.raises(CheckpointError, match=r"missing: .*encoder\.layers\.2\."):
        load(tmp_path / "adapter")


def released():
    """The released model's config.json, as far as it says anything; the tower's sizes it does not say."""
    return {
        "model_type": "phi3_v",
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32064,
        "max_position_embeddings": 131072,
        "original_max_position_embeddings": 4096,
        "rope_scaling": {"type": "su", "short_factor": [1.0] * 48, "long_factor": [2.0] * 48},
        "embd_layer": {"embedding_cls": "image", "hd_transform_order": "sub_glb", "use_hd_transform": True},
        "img_processor": {"name": "clip_vision_model", "image_dim_out": 1024, "num_img_tokens": 144},
    }


def test_without_sizes_of_the_tower_it_is_clip_large():
    with torch.device("meta"):
        vlm = Phi3VFamily.build(Phi3VFamily.completed(released()), torch.float32, "sdpa")
    layer = 3 * 3072 * 3072 + 3072 * 3072 + 3 * 8192 * 3072 + 2 * 3072
    decoder = 32064 * 3072 + 32 * layer + 3072
    clip_layer = 4 * (1024 * 1024 + 1024) + 2 * 1024 * 4096 + 4096 + 1024 + 4 * 1024
    clip = 1024 + 3 * 14 * 14 * 1024 + 577 * 1024 + 24 * clip_layer + 4 * 1024
    projection = 4096 * 3072 + 3072 + 3072 * 3072 + 3072 + 2 * 4096
    assert sum(p.numel() for p in vlm.parameters()) == decoder + clip + projection


def test_a_completed_configuration_stays_as_it_is():
    full = Phi3VFamily.completed(released())
    assert Phi3VFamily.completed(json.loads(json.dumps(full))) == full
    assert full["num_key_value_heads"] == 32 and full["img_processor"]["layer_idx"] == -2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"embd_layer": {"hd_transform_order": "glb_sub"}}, "hd_transform_order is glb_sub; want sub_glb"),
        ({"img_processor": {"type_feature": "cls_patch"}}, "type_feature is cls_patch; want patch"),
        ({"rope_scaling": {"type": "yarn"}}, "rope_scaling of type yarn; want su"),
        (
            {"rope_scaling": {"type": "su", "short_factor": [1.0] * 48, "long_factor": [1.0]}},
            "rope_scaling.long_factor has 1 entries; want 48",
        ),
    ],
)
def test_what_no_published_checkpoint_does_is_refused(changed, message):
    with pytest.raises(ConfigError, match=message):
        Phi3VFamily.completed({**released(), **changed})
