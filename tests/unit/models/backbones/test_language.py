"""Language models as parts: first layers only, from folders and from GGUF files."""

from pathlib import Path

import pytest
import torch

from mmret.errors import CheckpointError, ConfigError
from mmret.models.backbones.language import (
    TINY_CONFIG,
    build_language,
    language_config,
    language_tokenizer,
    load_language,
)
from mmret.models.weights import read_weights

SIZES = {**TINY_CONFIG, "num_hidden_layers": 3, "vocab_size": 40, "num_attention_heads": 4, "num_key_value_heads": 2}


def states(model, ids):
    with torch.no_grad():
        return model.eval()(input_ids=ids).last_hidden_state


def build(config):
    return build_language(config, torch.float32, "eager")


@pytest.fixture
def folder(tmp_path):
    """A published folder: a causal language model as transformers saves it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**{k: v for k, v in SIZES.items() if k != "model_type"})).save_pretrained(tmp_path)
    return tmp_path


def test_a_folder_gives_the_librarys_states(folder):
    from transformers import AutoModelForCausalLM

    ids = torch.arange(12).view(2, 6)
    model = build(language_config(str(folder)))
    load_language(model, str(folder))
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.allclose(states(model, ids), states(theirs.model, ids), atol=1e-6)


def test_first_layers_are_the_whole_models_first_layers(folder):
    model = build(language_config(str(folder), layers=2))
    load_language(model, str(folder))
    stored = read_weights(folder)
    own = model.state_dict()
    assert {int(key.split(".")[1]) for key in own if key.startswith("layers.")} == {0, 1}
    assert all(torch.equal(value, stored[f"model.{key}"]) for key, value in own.items())


@pytest.mark.parametrize(
    "config, message",
    [
        (None, "has no config.json"),
        ("{", "config.json is not JSON"),
        ('{"model_type": "resnet"}', "holds a 'resnet' model, which is no causal language model by itself"),
    ],
)
def test_a_folder_that_holds_no_language_model_says_why(tmp_path, config, message):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(ConfigError, match=rf"^model\.composed\.language: .*{message}"):
        language_config(str(tmp_path))


@pytest.mark.parametrize("layers", [0, 4])
def test_layers_that_are_not_there_are_refused(folder, layers):
    with pytest.raises(ConfigError, match=rf"layers must be 1 to 3.*got {layers}"):
        language_config(str(folder), layers)


def test_a_missing_weight_is_named(folder):
    from safetensors.torch import save_file

    state = read_weights(folder)
    del state["model.layers.1.mlp.up_proj.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.up_proj\.weight"):
        load_language(build(language_config(str(folder))), str(folder))


TOKENS = ["<unk>", "<start>", "<end>", *(chr(i) for i in range(ord("a"), ord("z") + 1)), *"0123456789", "Ġ"]


def write_gguf(path: Path, state: dict[str, torch.Tensor], kind: str = "llama") -> None:
    """A GGUF file of the weights, through the format's own library: q and k rows of a head interleaved."""
    gguf = pytest.importorskip("gguf", reason="needs the package gguf (extra demo)")
    writer = gguf.GGUFWriter(path, kind)
    writer.add_context_length(512)
    writer.add_embedding_length(SIZES["hidden_size"])
    writer.add_feed_forward_length(SIZES["intermediate_size"])
    writer.add_block_count(SIZES["num_hidden_layers"])
    writer.add_head_count(SIZES["num_attention_heads"])
    writer.add_head_count_kv(SIZES["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([*TOKENS, "ab"])
    writer.add_token_merges(["a b"])
    writer.add_token_types([3 if token.startswith("<") else 1 for token in [*TOKENS, "ab"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    names = {"embed_tokens": "token_embd", "norm": "output_norm"}
    parts = {
        "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    for key, value in state.items():
        stem, _, suffix = key.rpartition(".")
        if stem.startswith("layers."):
            _, number, part = stem.split(".", 2)
            if part in ("self_attn.q_proj", "self_attn.k_proj"):
                heads = SIZES["num_attention_heads" if "q_proj" in part else "num_key_value_heads"]
                value = torch.stack(
                    [row for head in value.chunk(heads) for pair in zip(*head.chunk(2)) for row in pair]
                )
            stem = f"blk.{number}.{parts[part]}"
        writer.add_tensor(f"{names.get(stem, stem)}.{suffix}", value.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def state():
    torch.manual_seed(1)
    return build({**SIZES, "vocab_size": len(TOKENS) + 1}).state_dict()


def test_a_gguf_file_gives_back_what_was_written(tmp_path, state):
    write_gguf(tmp_path / "model.gguf", state)
    name = str(tmp_path / "model.gguf")
    config = language_config(name, layers=2)
    model = build(config)
    load_language(model, name)
    assert config["num_hidden_layers"] == 2 and config["rope_parameters"]["rope_theta"] == 10000.0
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_a_gguf_tokenizer_merges_parts_digits_and_knows_control_tokens(tmp_path, state):
    write_gguf(tmp_path / "model.gguf", state)
    tokenizer = language_tokenizer(str(tmp_path / "model.gguf"))
    pieces = [tokenizer.backend.id_to_token(i) for i in tokenizer.ids(["<start>cab 12"])[0]]
    assert pieces == ["<start>", "c", "ab", "Ġ", "1", "2"]
    assert tokenizer.special_id("sep") == 2


def test_another_architecture_in_a_gguf_file_is_refused(tmp_path, state):
    write_gguf(tmp_path / "model.gguf", state, kind="bloom")
    with pytest.raises(CheckpointError, match="holds a 'bloom' model"):
        language_config(str(tmp_path / "model.gguf"))


def test_a_cut_gguf_file_is_refused(tmp_path, state):
    pytest.importorskip("gguf", reason="needs the package gguf (extra demo)")
    (tmp_path / "model.gguf").write_bytes(b"no model at all")
    with pytest.raises(CheckpointError, match="cannot be read as a GGUF file"):
        language_config(str(tmp_path / "model.gguf"))
