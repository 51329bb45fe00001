"""Our folders, published layouts old and new, adapters: exact or refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmret.errors import CheckpointError, ConfigError
from mmret.models import VLM2Vec, VLM2VecConfig, load
from mmret.types import Content
from tests.unit.models.toys import picture

KINDS = ["qwen2_vl", "qwen2_5_vl", "llava_next"]
CONTENTS = [Content("which flag is this", (picture(1, (60, 90)),)), Content("red")]
LORA = {"type": "lora", "r": 4, "target_modules": ["q_proj", "down_proj"]}
DORA = {**LORA, "type": "dora"}


def model_of(kind="qwen2_vl", peft=None, seed=2):
    torch.manual_seed(seed)
    model = VLM2Vec.from_config(VLM2VecConfig(backbone=f"tiny:{kind}", peft=peft or {})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def vectors(model):
    with torch.no_grad():
        return model.encode_query(model.processor(CONTENTS, "query")).vectors


OLD = {
    "qwen2_vl": {"language_model.": "model.", "visual.": "visual."},
    "qwen2_5_vl": {"language_model.": "model.", "visual.": "visual."},
    "llava_next": {
        "language_model.": "language_model.model.",
        "vision_tower.": "vision_tower.vision_model.",
        "multi_modal_projector.": "multi_modal_projector.",
        "image_newline": "image_newline",
    },
}
"""Start of a name today -> in files of older libraries."""


def old_name(kind, key):
    start = next(start for start in OLD[kind] if key.startswith(start))
    return OLD[kind][start] + key.removeprefix(start)


def publish(model, folder, kind, old):
    """The folder as the model's authors would publish it."""
    folder.mkdir()
    state = model.vlm.state_dict()
    renamed = {(old_name(kind, key) if old else f"model.{key}"): value.contiguous() for key, value in state.items()}
    renamed["language_model.lm_head.weight" if old and kind == "llava_next" else "lm_head.weight"] = torch.zeros(3, 3)
    save_file(renamed, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(model.spec.config))
    (folder / "preprocessor_config.json").write_text(json.dumps(model.spec.pictures))
    model.processor.tokenizer.save(folder)


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_published_names_of_any_library_version_load(kind, old, tmp_path):
    model = model_of(kind)
    publish(model, tmp_path / "published", kind, old)
    assert torch.allclose(vectors(load(tmp_path / "published")), vectors(model), atol=1e-6)


@pytest.mark.parametrize("peft", [{}, LORA, DORA])
def test_what_was_saved_loads_the_same(peft, tmp_path):
    model = model_of(peft=peft)
    model.save(tmp_path / "ours")
    again = load(tmp_path / "ours")
    assert torch.equal(vectors(again), vectors(model))
    assert again.config == model.config


def test_a_missing_weight_is_named(tmp_path):
    publish(model_of(), tmp_path / "published", "qwen2_vl", old=True)
    path = tmp_path / "published" / "model.safetensors"
    state = load_file(path)
    del state["model.norm.weight"]
    save_file(state, path)
    with pytest.raises(CheckpointError, match=r"missing: language_model\.norm\.weight"):
        load(tmp_path / "published")


def adapter_folder(model, folder, old=False):
    """peft's layout, under today's names or the old library's."""
    model.save_adapter(folder)
    if old:
        path = folder / "adapter_model.safetensors"
        state = {key.replace("model.model.language_model.", "model.model."): v for key, v in load_file(path).items()}
        save_file(state, path)


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("peft", [LORA, DORA], ids=["lora", "dora"])
def test_an_adapter_loads_onto_its_base_under_old_and_new_names(peft, old, tmp_path):
    base = model_of()
    publish(base, tmp_path / "base", "qwen2_vl", old)
    torch.manual_seed(5)
    model = VLM2Vec.from_config(VLM2VecConfig(backbone=str(tmp_path / "base"), peft=peft)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".default" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    adapter_folder(model, tmp_path / "adapter", old)
    again = load(tmp_path / "adapter")  # the base is named in its files
    assert torch.allclose(vectors(again), vectors(model), atol=1e-6)
    assert not torch.allclose(vectors(again), vectors(base), atol=1e-3)


@pytest.mark.parametrize("peft", [LORA, DORA], ids=["lora", "dora"])
def test_merged_weights_give_the_adapters_embeddings(peft):
    model = model_of(peft=peft)
    expected = vectors(model)
    merged = model.merged()
    assert torch.allclose(vectors(merged), expected, atol=1e-5)
    assert merged.config.peft == {}
    assert not any("lora" in name for name, _ in merged.named_parameters())


def test_a_fresh_adapter_changes_nothing():
    model = VLM2Vec.from_config(VLM2VecConfig(backbone="tiny", peft=DORA)).eval()
    before = vectors(model)
    assert torch.allclose(vectors(model.merged()), before, atol=1e-6)


@pytest.mark.parametrize("wrong", ["missing", "unknown", "shape"])
def test_an_adapter_that_does_not_fit_is_refused(wrong, tmp_path):
    publish(model_of(), tmp_path / "base", "qwen2_vl", old=False)
    model = VLM2Vec.from_config(VLM2VecConfig(backbone=str(tmp_path / "base"), peft=LORA))
    model.save_adapter(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    state = load_file(path)
    key = next(iter(state))
    if wrong == "missing":
        del state[key]
    elif wrong == "unknown":
        state[key.replace("layers.0", "layers.7")] = state[key].clone()
    else:
        state[key] = torch.zeros(2, 2)
    save_file(state, path)
    with pytest.raises(CheckpointError, match=r"missing:|unknown:|wrong shape:") as caught:
        load(tmp_path / "adapter")
    assert f"{wrong}" in str(caught.value)


def test_an_adapters_missing_base_is_named(tmp_path):
    model_of(peft=LORA).save_adapter(tmp_path / "adapter")
    with pytest.raises(ConfigError, match="nowhere: no such file or folder"):
        load(tmp_path / "adapter", backbone=str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("peft", "message"),
    [
        ({"type": "lorra"}, "model.peft.type: 'lorra'.*Did you mean"),
        ({"type": "lora", "rr": 3}, "model.peft.rr: LoraConfig has no such setting. Did you mean r"),
        ({"type": "lora", "target_modules": ["nothing"]}, "model.peft: .*nothing"),
    ],
)
def test_wrong_peft_settings_are_named(peft, message):
    with pytest.raises(ConfigError, match=message):
        VLM2Vec.from_config(VLM2VecConfig(backbone="tiny", peft=peft))


def test_another_adapter_method_of_pefts_works_by_its_name():
    peft = {"type": "loha", "r": 2, "target_modules": ["q_proj"]}
    model = VLM2Vec.from_config(VLM2VecConfig(backbone="tiny", peft=peft))
    assert any("hada" in name for name, _ in model.named_parameters())


def test_a_stage_that_adds_adapters_starts_from_the_stage_before():
    model = VLM2Vec(VLM2VecConfig(backbone="tiny", peft=LORA))
    key = "vlm.language_model.layers.0.self_attn.q_proj.base_layer.weight"
    assert model.handover_source(key) == "vlm.language_model.layers.0.self_attn.q_proj.weight"


def test_an_unknown_override_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"VLM2Vec has no setting position\. Did you mean positions"):
        VLM2Vec.load(tmp_path, position="mrope")
