"""Language models in GGUF files (llama.cpp's format): sizes, weights of the first layers, tokenizer. Llama kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from mmret.errors import CheckpointError, ConfigError
from mmret.models.backbones.tokenizer import TextTokenizer

NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""A block's tensors there -> here."""
SPECIAL_KIND = 3
"""Type of control tokens in `tokenizer.ggml.token_type`."""
SPLITS: dict[str, Any] = {
    "smollm": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "gpt-2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
}
"""How the tokenizers that we read cut a text before merging."""


class GGUFFile:
    """An open file. Its weights are quantised: what comes out is as near to the original as that allows.

    Raises:
        ConfigError: the package `gguf` is missing.
        CheckpointError: no GGUF file, or of another architecture than llama.
    """

    def __init__(self, path: Path) -> None:
        try:
            from gguf import GGUFReader
        except ModuleNotFoundError as error:
            raise ConfigError(f"{path}: GGUF files need the package gguf; pip install 'mmret[demo]'") from error
        self.path = path
        try:
            self.reader = GGUFReader(path)
        except (ValueError, OSError, IndexError) as error:
            raise CheckpointError(f"{path} cannot be read as a GGUF file: {error}; is it complete?") from error
        kind = self._get("general.architecture")
        if kind != "llama":
            raise CheckpointError(f"{path} holds a '{kind}' model; of GGUF files only llama models are read")

    def config(self) -> dict[str, Any]:
        """The transformers configuration."""
        heads = self._get("llama.attention.head_count")
        return {
            "model_type": "llama",
            "vocab_size": len(self._get("tokenizer.ggml.tokens")),
            "hidden_size": self._get("llama.embedding_length"),
            "intermediate_size": self._get("llama.feed_forward_length"),
            "num_hidden_layers": self._get("llama.block_count"),
            "num_attention_heads": heads,
            "num_key_value_heads": self._get("llama.attention.head_count_kv", heads),
            "max_position_embeddings": self._get("llama.context_length"),
            "rms_norm_eps": self._get("llama.attention.layer_norm_rms_epsilon"),
            "rope_theta": self._get("llama.rope.freq_base", 10000.0),
            "bos_token_id": self._get("tokenizer.ggml.bos_token_id", None),
            "eos_token_id": self._get("tokenizer.ggml.eos_token_id", None),
            "pad_token_id": self._get("tokenizer.ggml.padding_token_id", None),
            "tie_word_embeddings": True,
        }

    def weights(self, layers: int) -> dict[str, Tensor]:
        """Embeddings, the first `layers` blocks and the final norm, float32, under transformers' names."""
        from gguf import dequantize

        heads = self._get("llama.attention.head_count")
        rotated = {"attn_q": heads, "attn_k": self._get("llama.attention.head_count_kv", heads)}
        state = {}
        for tensor in self.reader.tensors:
            name = _own_name(tensor.name, layers)
            if name is None:
                continue
            weight = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy()).float()
            part = tensor.name.split(".")[-2]
            if part in rotated:
                # There a head's rotated pairs lie side by side, in transformers half a head apart.
                width = weight.shape[0]
                weight = weight.view(rotated[part], -1, 2, weight.shape[1]).transpose(1, 2).reshape(width, -1)
            state[name] = weight
        return state

    def tokenizer(self) -> TextTokenizer:
        """Its byte-level BPE.

        Raises:
            CheckpointError: another kind of tokenizer.
        """
        kind, split = self._get("tokenizer.ggml.model"), self._get("tokenizer.ggml.pre", "gpt-2")
        if kind != "gpt2" or split not in SPLITS:
            raise CheckpointError(f"{self.path} has a tokenizer '{kind}/{split}'; known: gpt2 with {', '.join(SPLITS)}")
        tokens = self._get("tokenizer.ggml.tokens")
        merges = [tuple(merge.split(" ", 1)) for merge in self._get("tokenizer.ggml.merges")]
        backend = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
        backend.pre_tokenizer = SPLITS[split]()
        backend.decoder = decoders.ByteLevel()
        kinds = self._get("tokenizer.ggml.token_type")
        backend.add_special_tokens(
            [AddedToken(t, special=True, normalized=False) for t, k in zip(tokens, kinds) if k == SPECIAL_KIND]
        )
        names = {"cls": "bos", "sep": "eos", "unk": "unknown", "pad": "padding"}
        ids = {ours: self._get(f"tokenizer.ggml.{theirs}_token_id", None) for ours, theirs in names.items()}
        return TextTokenizer(backend, {name: tokens[number] for name, number in ids.items() if number is not None})

    def _get(self, key: str, *default: Any) -> Any:
        field = self.reader.get_field(key)
        if field is not None:
            return field.contents()
        if default:
            return default[0]
        raise CheckpointError(f"{self.path} has no entry {key}")


def _own_name(name: str, layers: int) -> str | None:
    """Transformers' name of a tensor; None: not wanted."""
    stem, _, suffix = name.rpartition(".")
    if stem in ("token_embd", "output_norm"):
        return {"token_embd": "embed_tokens", "output_norm": "norm"}[stem] + f".{suffix}"
    if not stem.startswith("blk."):
        return None
    _, number, part = stem.split(".")
    return f"layers.{number}.{NAMES[part]}.{suffix}" if int(number) < layers and part in NAMES else None
