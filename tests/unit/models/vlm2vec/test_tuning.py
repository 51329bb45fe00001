"""Each way of tuning: what trains, that a file holds it and loads strictly, that merging keeps it."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmret.errors import CheckpointError, ConfigError
from mmret.models import PreFLMR, VLM2Vec, VLM2VecConfig, VLMo, load
from mmret.models.vlm2vec.adapter import LORA_DEFAULTS
from mmret.objectives import ITCConfig
from mmret.recipe.schema import MixtureConfig, OptimizerConfig, Stage
from mmret.training.handover import hand_over
from mmret.training.module import RetrievalModule
from mmret.training.optim import lr_scale_of
from mmret.types import Content
from tests.unit.models.toys import picture

CONTENTS = [
    Content("which flag is this", (picture(1, (60, 90)),)),
    Content("red"),
    Content("a long way from home it is"),
]
KINDS = {
    "lora": {"type": "lora", "r": 4, "target_modules": ["q_proj", "down_proj"]},
    "rslora": {"type": "lora", "r": 4, "lora_alpha": 6, "use_rslora": True},
    "dora": {"type": "dora", "r": 4, "target_modules": ["v_proj"]},
    "vera": {"type": "vera", "r": 16},
    "ia3": {"type": "ia3"},
    "whole module too": {"type": "lora", "r": 2, "target_modules": ["q_proj"], "modules_to_save": ["merger"]},
    "learnt tokens": {"type": "prompt_tuning", "num_virtual_tokens": 3},
    "learnt tokens, random": {"type": "prompt_tuning", "num_virtual_tokens": 2, "prompt_tuning_init": "RANDOM"},
}


def model_of(peft, seed=2, **settings):
    torch.manual_seed(seed)
    return VLM2Vec.from_config(VLM2VecConfig(backbone="tiny", peft=peft, **settings)).eval()


def adapters(model):
    return {name: p for name, p in model.named_parameters() if re.search(model.parts()["adapters"], name)}


def trained(peft, seed=3):
    """With other numbers in everything that trains."""
    model = model_of(peft)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in adapters(model).values():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def vectors(model, contents=CONTENTS):
    with torch.no_grad():
        return model.encode_query(model.processor(contents, "query")).vectors


def module_of(model, **settings):
    stage = Stage(
        name="one",
        steps=1,
        data=MixtureConfig(sources={}, batch_size=2),
        objectives={"itc": ITCConfig(temperature=0.1, learn_temperature=True)},
        optimizer=OptimizerConfig(lr=1e-3),
        **settings,
    )
    return RetrievalModule(model, stage)


def trains(module):
    return {name for name, p in module.named_parameters() if p.requires_grad}


@pytest.fixture
def base(tmp_path):
    """A published backbone with numbers of its own."""
    model = VLM2Vec.from_config(VLM2VecConfig(backbone="tiny"))
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return publish(model, tmp_path / "base")


def publish(model, folder):
    folder.mkdir()
    save_file(
        {f"model.{key}": v.contiguous() for key, v in model.vlm.state_dict().items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps(model.spec.config))
    (folder / "preprocessor_config.json").write_text(json.dumps(model.spec.pictures))
    model.processor.tokenizer.save(folder)
    return folder


# What trains


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_and_the_objectives_train_and_nothing_else(kind):
    model = model_of(KINDS[kind])
    assert trains(module_of(model)) == {f"model.{name}" for name in adapters(model)} | {"objectives.itc.logit_scale"}


@pytest.mark.parametrize("kind", KINDS)
def test_everything_that_trains_gets_gradient(kind):
    model = model_of(KINDS[kind]).train()
    module_of(model)
    for name, parameter in adapters(model).items():
        if "lora_B" in name or "vera_lambda_b" in name:  # these begin at 0, which would hide their partners
            torch.nn.init.normal_(parameter)
    found = model.encode_query(model.processor(CONTENTS, "query")).vectors
    (found * torch.randn(found.shape)).sum().backward()
    idle = [name for name, p in adapters(model).items() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []
    assert [name for name, p in model.named_parameters() if p.grad is not None and name not in adapters(model)] == []


def test_rank_scale_dropout_and_targets_are_the_sections():
    model = model_of({"type": "lora", "r": 3, "lora_alpha": 12, "lora_dropout": 0.25, "target_modules": ["up_proj"]})
    layer = model.vlm.language_model.layers[0].mlp.up_proj
    assert layer.lora_A["default"].weight.shape[0] == 3
    assert layer.scaling["default"] == 4.0 and layer.lora_dropout["default"].p == 0.25
    assert {name.split(".lora_")[0].split(".")[-1] for name in adapters(model)} == {"up_proj"}
    rank_stabilised = model_of({"type": "lora", "r": 4, "lora_alpha": 12, "use_rslora": True})
    assert rank_stabilised.vlm.language_model.layers[0].mlp.up_proj.scaling["default"] == 6.0  # alpha / sqrt(r)


def test_a_section_that_says_nothing_is_vlm2vecs_lora():
    layer = model_of({"type": "lora"}).vlm.language_model.layers[0].self_attn.q_proj
    assert layer.r["default"] == 8 and layer.scaling["default"] == 8.0 and layer.lora_dropout["default"].p == 0.1
    assert "gate_proj" in LORA_DEFAULTS["target_modules"]


@pytest.mark.parametrize(("bias", "count"), [("none", 0), ("lora_only", 4), ("all", None)])
def test_biases_train_where_the_section_says_so(bias, count):
    peft = {"type": "lora", "r": 2, "target_modules": ["q_proj", "v_proj"], "bias": bias}
    model = model_of(peft)
    biases = {name for name in trains(module_of(model)) if name.endswith("bias")}
    every = {f"model.{name}" for name, _ in model.named_parameters() if name.endswith("bias")}
    assert biases == every if count is None else len(biases) == count  # 2 layers x 2 modules


def test_lr_scale_says_otherwise_where_it_is_written():
    model = model_of(KINDS["lora"])
    assert trains(module_of(model, lr_scale={"visual": 1.0, ".*": 0.0})) == {
        f"model.{name}" for name, _ in model.named_parameters() if "visual" in name
    }
    assert trains(module_of(model, train="all")) == {name for name, _ in module_of(model).named_parameters()}


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("qwen2_vl", "visual.merger"),
        ("qwen2_5_vl", "visual.merger"),
        ("llava_next", "multi_modal_projector|image_newline"),
    ],
)
def test_train_connector_trains_what_joins_the_towers(kind, names):
    model = VLM2Vec(VLM2VecConfig(backbone=f"tiny:{kind}"))
    expected = {f"model.vlm.{name}" for name, _ in model.vlm.named_parameters() if re.match(names, name)}
    assert expected
    assert trains(module_of(model, train="connector")) == expected | {"objectives.itc.logit_scale"}


def test_the_connector_of_preflmr_is_its_mapping():
    model = PreFLMR(PreFLMR.SIZES["tiny"])
    parts = {name.split(".")[1].split("_")[0] for name in trains(module_of(model, train="connector"))}
    assert parts == {"prefix", "mapping", "itc"}


def test_a_part_that_the_model_has_not_is_named():
    with pytest.raises(ConfigError, match="train: 'adapters' is no part of this VLM2Vec; known here: all, connector"):
        module_of(VLM2Vec(VLM2VecConfig(backbone="tiny")), train="adapters")
    with pytest.raises(ConfigError, match="train: 'connector' is no part of this VLMo; known here: all"):
        lr_scale_of(module_of(PreFLMR(PreFLMR.SIZES["tiny"]), train="connector").stage, VLMo(VLMo.SIZES["tiny"]))


# Files


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_saved_loads_the_same(kind, tmp_path):
    model = trained(KINDS[kind])
    model.save(tmp_path / "ours")
    again = load(tmp_path / "ours")
    assert torch.equal(vectors(again), vectors(model))
    assert again.config == model.config


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_alone_load_onto_their_base(kind, base, tmp_path):
    model = VLM2Vec.from_config(VLM2VecConfig(backbone=str(base), peft=KINDS[kind])).eval()
    with torch.no_grad():
        for parameter in adapters(model).values():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_adapter(tmp_path / "adapter")
    assert torch.allclose(vectors(load(tmp_path / "adapter")), vectors(model), atol=1e-6)
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert len(saved) == len(adapters(model))
    assert not any(".default" in key or "modules_to_save" in key for key in saved)  # peft's own names


@pytest.mark.parametrize("wrong", ["missing", "unknown", "wrong shape"])
@pytest.mark.parametrize("kind", KINDS)
def test_adapters_that_do_not_fit_are_refused_by_name(kind, wrong, base, tmp_path):
    VLM2Vec.from_config(VLM2VecConfig(backbone=str(base), peft=KINDS[kind])).save_adapter(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    state = load_file(path)
    key = next(iter(state))
    if wrong == "missing":
        del state[key]
    elif wrong == "unknown":
        state["base_model.model.model.language_model.layers.9.self_attn.q_proj.lora_A.weight"] = torch.zeros(2, 2)
    else:
        state[key] = torch.zeros(7, 5, 3)
    save_file(state, path)
    with pytest.raises(CheckpointError, match=rf"(?s)an adapter for {base}.* on the backbone {base}.*{wrong}: "):
        load(tmp_path / "adapter")


def test_an_adapter_of_another_base_says_so(base, tmp_path):
    VLM2Vec.from_config(VLM2VecConfig(backbone=str(base), peft=KINDS["lora"])).save_adapter(tmp_path / "adapter")
    small = VLM2Vec.from_config(VLM2VecConfig(backbone="tiny"))
    small.spec.config["text_config"] |= {"num_hidden_layers": 1, "layer_types": ["full_attention"]}
    short = publish(VLM2Vec(small.config, spec=small.spec), tmp_path / "short")
    with pytest.raises(
        CheckpointError, match=rf"(?s)an adapter for {base}\) on the backbone {short}.*unknown: .*layers\.1"
    ):
        load(tmp_path / "adapter", backbone=str(short))


def test_veras_random_matrices_of_another_library_are_used(base, tmp_path):
    model = VLM2Vec.from_config(VLM2VecConfig(backbone=str(base), peft=KINDS["vera"])).eval()
    with torch.no_grad():
        for name, parameter in adapters(model).items():
            if "vera_lambda_b" in name:
                parameter.fill_(0.5)
    model.save_adapter(tmp_path / "adapter")
    before = vectors(model)
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    layer = model.vlm.language_model.layers[0].self_attn.q_proj
    drawn = {f"base_model.{name}": getattr(layer, name)["default"] * -0.5 for name in ("vera_A", "vera_B")}
    save_file({**load_file(path), **drawn}, path)
    found = vectors(load(tmp_path / "adapter"))
    with torch.no_grad():
        for name in ("vera_A", "vera_B"):
            getattr(layer, name)["default"].mul_(-0.5)
    assert torch.allclose(found, vectors(model), atol=1e-6)
    assert not torch.allclose(found, before, atol=1e-3)


# Merging


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "tokens" not in kind])
def test_merged_weights_give_the_adapters_embeddings_and_a_bare_model(kind):
    model = trained(KINDS[kind])
    expected = vectors(model)
    assert not torch.allclose(expected, vectors(model_of({})), atol=1e-3)
    merged = model.merged()
    assert torch.allclose(vectors(merged), expected, atol=1e-5)
    assert merged.config.peft == {}
    assert set(merged.state_dict()) == set(model_of({}).state_dict())


def test_learnt_tokens_cannot_be_merged():
    with pytest.raises(ConfigError, match="nothing to merge into the weights"):
        model_of(KINDS["learnt tokens"]).merged()


def test_a_model_without_adapters_has_none_to_save(tmp_path):
    with pytest.raises(ConfigError, match="no adapters to save"):
        model_of({}).save_adapter(tmp_path)


# Learnt tokens


@pytest.mark.parametrize("padding", ["left", "right"])
def test_learnt_tokens_stand_before_the_prompt_and_the_last_token_stays_the_last(padding):
    model = trained(KINDS["learnt tokens"])
    model.processor.padding = padding
    texts = ["red", "a long way from home it is"]
    found = vectors(model, [Content(text) for text in texts])
    table = model.vlm.get_input_embeddings().weight
    for row, text in enumerate(texts):
        ids = model.processor([Content(text)], "query").dense["input_ids"][0]
        embedded = torch.cat([model.prompt.vectors, table[ids]])[None]
        places = torch.arange(embedded.shape[1])
        with torch.no_grad():
            states = model.vlm.language_model(
                inputs_embeds=embedded, position_ids=places.expand(3, 1, -1), use_cache=False
            ).last_hidden_state
        assert torch.allclose(found[row], torch.nn.functional.normalize(states[0, -1], dim=0), atol=1e-6)


@pytest.mark.parametrize("positions", ["text_1d", "mrope"])
@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl", "llava_next"])
def test_rows_do_not_depend_on_their_neighbours_with_learnt_tokens(kind, positions):
    if (kind, positions) == ("llava_next", "mrope"):
        pytest.skip("its positions have one axis")
    torch.manual_seed(1)
    peft = {"type": "prompt_tuning", "num_virtual_tokens": 2}
    model = VLM2Vec.from_config(VLM2VecConfig(backbone=f"tiny:{kind}", peft=peft, positions=positions)).eval()
    together = vectors(model)
    alone = torch.cat([vectors(model, [content]) for content in CONTENTS])
    assert torch.allclose(together, alone, atol=1e-5)


def test_learnt_tokens_begin_as_words_of_the_vocabulary():
    model = model_of(KINDS["learnt tokens"])
    table = model.vlm.get_input_embeddings().weight
    assert all(any(torch.equal(vector, word) for word in table) for vector in model.prompt.vectors)


@pytest.mark.parametrize(
    ("peft", "message"),
    [
        ({"type": "prompt_tuning", "num_virtual_tokens": 0}, "num_virtual_tokens must be >= 1, got 0"),
        ({"type": "prompt_tuning", "prompt_tuning_init": "SOMEHOW"}, "prompt_tuning_init: SOMEHOW; want RANDOM"),
        ({"type": "prefix_tuning", "num_virtual_tokens": 2}, "only prompt_tuning is built"),
        ({"type": "p_tuning", "num_virtual_tokens": 2}, "only prompt_tuning is built"),
        ({"type": "ia3", "target_modules": ["q_proj"], "feedforward_modules": ["down_proj"]}, "model.peft: .*subset"),
        ({"type": "vera", "target_modules": ["nothing"]}, "model.peft: .*"),
    ],
)
def test_what_is_not_built_or_makes_no_sense_is_refused(peft, message):
    with pytest.raises(ConfigError, match=message):
        model_of(peft)


# From stage to stage


@pytest.mark.parametrize("kind", ["dora", "learnt tokens", "whole module too", "vera"])
def test_adapters_put_on_an_earlier_stages_weights_begin_by_them(kind):
    old = model_of({}, seed=5)
    with torch.no_grad():
        for parameter in old.parameters():
            parameter.mul_(3.0)
    model = VLM2Vec(VLM2VecConfig(backbone="tiny", peft=KINDS[kind])).eval()
    report = hand_over(model, old.state_dict(), "old")
    model.after_handover(report.new)
    if kind == "learnt tokens":
        table = old.vlm.get_input_embeddings().weight
        assert all(any(torch.equal(vector, word) for word in table) for vector in model.prompt.vectors)
    else:  # fresh adapters change nothing: DoRA has measured the weights that are there
        assert torch.allclose(vectors(model), vectors(old), atol=1e-5)


def test_adapters_of_the_stage_before_go_on():
    old = trained(KINDS["dora"])
    model = VLM2Vec(VLM2VecConfig(backbone="tiny", peft=KINDS["dora"])).eval()
    report = hand_over(model, old.state_dict(), "old")
    assert report.new == []
    model.after_handover(report.new)
    assert torch.equal(vectors(model), vectors(old))


def test_adapters_of_bfloat16_weights_are_float32():
    for kind in ("lora", "dora", "vera", "ia3", "learnt tokens"):
        model = model_of(KINDS[kind], dtype="bfloat16")
        assert {p.dtype for p in adapters(model).values()} == {torch.float32}
        assert vectors(model).isfinite().all()


# QLoRA


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without CUDA is refused")
def test_qlora_without_a_gpu_is_refused_before_anything_is_built(monkeypatch):
    def built(*args, **kwargs):
        raise AssertionError("the backbone was built")

    monkeypatch.setattr("mmret.models.vlm2vec.model.build_vlm", built)
    for make in (VLM2Vec.from_config, VLM2Vec):
        with pytest.raises(ConfigError, match="qlora wants a CUDA device, and there is none here; use lora instead"):
            make(VLM2VecConfig(backbone="tiny", peft={"type": "qlora"}))


def test_qlora_without_bitsandbytes_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="qlora wants bitsandbytes, which is not here"):
        VLM2Vec(VLM2VecConfig(backbone="tiny", peft={"type": "qlora"}))


def test_parameters_of_qlora_are_counted_without_a_gpu():
    skeleton = VLM2Vec.skeleton(VLM2VecConfig(backbone="tiny", peft={"type": "qlora", "r": 4}))
    assert {name: p.shape for name, p in adapters(skeleton).items()} == {
        name: p.shape for name, p in adapters(model_of({"type": "lora", "r": 4})).items()
    }


# Leading dimensions


def test_a_dimension_given_at_load_cuts_embeddings_to_unit_length(tmp_path):
    model = model_of({})
    model.save(tmp_path)
    found = vectors(load(tmp_path, dim=5))
    assert torch.allclose(found, torch.nn.functional.normalize(vectors(model)[:, :5], dim=1), atol=1e-6)
    with pytest.raises(ConfigError, match=r"model.dim: 9999, but an embedding has \d+ numbers"):
        vectors(load(tmp_path, dim=9999))
    with pytest.raises(ConfigError, match=r"model\.dim must be >= 1, got 0"):
        load(tmp_path, dim=0)
