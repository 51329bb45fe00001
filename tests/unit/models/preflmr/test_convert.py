import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

import mmret.models
from mmret.errors import CheckpointError, ConfigError
from mmret.models import PreFLMR
from mmret.models.backbones import TextSpec, TextTokenizer
from mmret.models.preflmr import PreFLMRConfig, to_published
from mmret.types import Content
from tests.unit.models.toys import picture, toy_model

VISION = "query_vision_encoder.vision_model.vision_model."


def expected_names(text_layers=2, vision_layers=2, mapping_layers=1, sides=("context", "query"), mapping=True):
    """The published keys, written out from the reference's table."""
    names = set()

    def linear(*stems):
        names.update(f"{stem}.{kind}" for stem in stems for kind in ("weight", "bias"))

    for side in sides:
        p = f"{side}_text_encoder.bert_model."
        names.update(f"{p}embeddings.{kind}_embeddings.weight" for kind in ("word", "position", "token_type"))
        linear(f"{p}embeddings.LayerNorm", f"{p}pooler.dense")
        for i in range(text_layers):
            q = f"{p}encoder.layer.{i}."
            linear(*(f"{q}attention.self.{part}" for part in ("query", "key", "value")))
            linear(f"{q}attention.output.dense", f"{q}attention.output.LayerNorm")
            linear(f"{q}intermediate.dense", f"{q}output.dense", f"{q}output.LayerNorm")
        names.add(f"{side}_text_encoder_linear.weight")
    names.update(
        VISION + f"embeddings.{part}"
        for part in ("class_embedding", "patch_embedding.weight", "position_embedding.weight")
    )
    linear(VISION + "pre_layrnorm", VISION + "post_layernorm")
    for i in range(vision_layers):
        q = f"{VISION}encoder.layers.{i}."
        linear(*(f"{q}self_attn.{part}_proj" for part in ("q", "k", "v", "out")))
        linear(f"{q}layer_norm1", f"{q}layer_norm2", f"{q}mlp.fc1", f"{q}mlp.fc2")
    linear("query_vision_projection.model.0", "query_vision_projection.model.2")
    if mapping:
        linear("transformer_mapping_input_linear", "transformer_mapping_output_linear")
        for i in range(mapping_layers):
            q = f"transformer_mapping_network.layer.{i}."
            for attention in ("attention", "crossattention"):
                linear(*(f"{q}{attention}.self.{part}" for part in ("query", "key", "value")))
                linear(f"{q}{attention}.output.dense", f"{q}{attention}.output.LayerNorm")
            linear(f"{q}intermediate.dense", f"{q}output.dense", f"{q}output.LayerNorm")
    return names


@pytest.fixture
def published(tmp_path):
    folder = tmp_path / "published"
    to_published(toy_model(), folder)
    return folder


def rewrite(folder, change):
    """Load the folder's weights, let `change` edit the table, save them."""
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file({key: value.clone() for key, value in state.items()}, folder / "model.safetensors")


def test_published_names_are_the_reference_table():
    model = toy_model(mapping_layers=2)
    from mmret.models.preflmr.convert import published_names, unused_tensors

    assert {*published_names(model).values(), *unused_tensors(model)} == expected_names(mapping_layers=2)
    flmr = toy_model(use_mapping=False, separate_text_encoders=False)
    assert {*published_names(flmr).values(), *unused_tensors(flmr)} == expected_names(sides=("query",), mapping=False)


@pytest.mark.parametrize(
    "settings", [{}, {"use_mapping": False, "separate_text_encoders": False, "document_vision": True}]
)
def test_out_and_in_again_gives_the_same_bits(settings, tmp_path):
    model = toy_model(**settings)
    to_published(model, tmp_path / "a")
    rewrite(tmp_path / "a", lambda state: [v.add_(torch.randn_like(v)) for k, v in state.items() if "pooler" in k])
    opened = mmret.models.load(tmp_path / "a")
    assert all(torch.equal(value, opened.state_dict()[key]) for key, value in model.state_dict().items())
    opened.save(tmp_path / "ours")
    to_published(mmret.models.load(tmp_path / "ours"), tmp_path / "b")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[key]) for key, value in first.items()), "the unused pooler included"
    configs = [json.loads((tmp_path / name / "config.json").read_text()) for name in "ab"]
    assert configs[0] == configs[1]


def test_lengths_and_vocabulary_go_with_the_folder(published):
    opened = mmret.models.load(published)
    assert (opened.config.query_tokens, opened.config.document_tokens) == (16, 32)
    contents = [Content("find: the red flag, ok", (picture(1),))]
    model = toy_model()
    for role in ("query", "document"):
        ours, theirs = model.processor(contents, role), opened.processor(contents, role)
        assert all(torch.equal(value, theirs.dense[name]) for name, value in ours.dense.items())


def test_only_fields_that_differ_from_the_released_defaults_need_be_there(published):
    config = json.loads((published / "config.json").read_text())
    for key in ("mask_punctuation", "use_vision_encoder", "query_mask_input_ids_skip_list"):
        del config[key]
    (published / "config.json").write_text(json.dumps(config))
    assert mmret.models.load(published).config == mmret.models.load(published).config
    assert mmret.models.load(published).config.mask_punctuation


def test_vocab_txt_beside_the_weights_is_enough(published):
    (published / "query_tokenizer" / "vocab.txt").rename(published / "vocab.txt")
    for name in ("query_tokenizer", "context_tokenizer"):
        for file in (published / name).iterdir():
            file.unlink()
        (published / name).rmdir()
    assert mmret.models.load(published).config.document_tokens == 64, "no more than BERT has positions"


def test_without_any_vocabulary_the_error_says_what_to_copy(published):
    for name in ("query_tokenizer", "context_tokenizer"):
        for file in (published / name).iterdir():
            file.unlink()
    with pytest.raises(CheckpointError, match="copy query_tokenizer/"):
        mmret.models.load(published)


def test_aliases_are_accepted_when_equal(published):
    def alias(state):
        for key in list(state):
            for name, other in (("query_vision_", "context_vision_"), ("bert_model.", "text_model.")):
                if name in key:
                    state[key.replace(name, other)] = state[key].clone()
        state["query_text_encoder.bert_model.embeddings.position_ids"] = torch.arange(64)[None]

    before = mmret.models.load(published).state_dict()
    rewrite(published, alias)
    after = mmret.models.load(published).state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_an_alias_alone_is_enough(published):
    def rename(state):
        for key in [key for key in state if key.startswith("query_vision_")]:
            state[
                key.replace("query_vision_", "context_vision_").replace("vision_model.vision_model", "vision_model")
            ] = state.pop(key)

    rewrite(published, rename)
    mmret.models.load(published)


def test_aliases_that_differ_are_named(published):
    key = "query_vision_projection.model.0.bias"
    rewrite(published, lambda state: state.update({key.replace("query", "context"): state[key] + 1}))
    with pytest.raises(CheckpointError, match=r"context_vision_projection\.model\.0\.bias"):
        mmret.models.load(published)


def test_keys_removed_renamed_or_of_wrong_shape_are_all_listed(published):
    gone, renamed, shaped = (
        "transformer_mapping_output_linear.weight",
        "context_text_encoder_linear.weight",
        "query_vision_projection.model.2.bias",
    )

    def spoil(state):
        del state[gone]
        state["context_text_linear.weight"] = state.pop(renamed)
        state[shaped] = state[shaped][:-1]

    rewrite(published, spoil)
    with pytest.raises(CheckpointError) as caught:
        mmret.models.load(published)
    text = str(caught.value)
    assert f"missing: {gone}" in text
    assert f"missing: {renamed}" in text
    assert "unknown: context_text_linear.weight" in text
    assert f"wrong shape: {shaped}" in text
    assert "4 problems" in text


@pytest.mark.parametrize("key", sorted(expected_names())[::7])
def test_any_missing_key_is_an_error(published, key):
    rewrite(published, lambda state: state.pop(key))
    with pytest.raises(CheckpointError, match=re.escape(key)):
        mmret.models.load(published)


def test_weights_as_bin_open_too(published):
    before = mmret.models.load(published).state_dict()
    torch.save(load_file(published / "model.safetensors"), published / "pytorch_model.bin")
    (published / "model.safetensors").unlink()
    after = mmret.models.load(published).state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_a_mapping_base_that_is_not_in_the_folder_is_named(published):
    (published / "mapping_base_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"'mapping_base_config\.json' is no file in the folder"):
        mmret.models.load(published)


def test_released_mapping_networks_name_bert_base_which_we_know():
    from mmret.models.preflmr.published import read_settings, write_settings

    config = PreFLMRConfig()
    skeleton = PreFLMR.skeleton(config)
    settings, files = write_settings(config, skeleton.text_spec, skeleton.vision_spec)
    assert settings["transformer_mapping_config_base"] == "bert-base-uncased"
    assert not files
    from pathlib import Path

    again, text, vision = read_settings(settings, Path("nowhere"))
    assert (again.mapping_heads, again.mapping_ffn) == (12, 3072)
    assert text == skeleton.text_spec and vision == skeleton.vision_spec


def test_a_model_the_layout_cannot_say_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no place for model\.image_fit=squash"):
        to_published(toy_model(image_fit="squash"), tmp_path)
    model = toy_model()
    model.text_spec = TextSpec({**model.text_spec.config, "model_type": "roberta"})
    with pytest.raises(ConfigError, match="a roberta text encoder"):
        to_published(model, tmp_path)


def test_splitting_the_query_encoder_off_a_shared_one_copies_it(tmp_path):
    toy_model(separate_text_encoders=False).save(tmp_path)
    split = mmret.models.load(tmp_path, separate_text_encoders=True)
    state = split.state_dict()
    assert torch.equal(state["query_text_linear.weight"], state["document_text_linear.weight"])
    assert any(key.startswith("query_text.") for key in state)


def test_flmrs_added_tokens_follow_the_vocabulary(tmp_path):
    plain = TextTokenizer.tiny()
    vocabulary = [plain.backend.id_to_token(i) for i in range(len(plain))]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<BOK>": len(plain), "<EOK>": len(plain) + 1}))
    made = TextTokenizer.from_folder(tmp_path)
    assert made.ids(["<BOK> red <EOK>"]) == [[len(plain), plain.id_of("red"), len(plain) + 1]]
