"""Causal language models as parts of composed backbones: which one a name means, how to build it, its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmret.errors import ConfigError
from mmret.models.backbones.gguf_file import GGUFFile
from mmret.models.backbones.source import find_local, folder_config, local_folder
from mmret.models.backbones.tokenizer import TINY_VOCABULARY, TextTokenizer
from mmret.models.weights import check_keys, read_weights

TINY = "tiny"
"""A random two-layer Llama for tests."""
TINY_CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": len(TINY_VOCABULARY),
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}


def language_config(name: str, layers: int | None = None, *, download: bool = True) -> dict[str, Any]:
    """The transformers configuration of the language model that a recipe names.

    Args:
        name: hub id, folder, a `.gguf` file, `package:PACKAGE/PATH` of either, or `tiny`.
        layers: keep only the first so many blocks; None: all.
        download: ask the hub for what is not here.

    Raises:
        ConfigError: not here and not to be had, or it has fewer layers.
    """
    if name == TINY:
        config = dict(TINY_CONFIG)
    elif (file := _gguf(name)) is not None:
        config = GGUFFile(file).config()
    else:
        folder = find_local(name)
        if folder is None and not download:
            raise ConfigError(f"model.composed.language: the sizes of '{name}' are not known without its config.json")
        folder = folder or local_folder(name, "model.composed.language", weights=False)
        config = folder_config(folder, "model.composed.language")
    config = completed_language(config)
    if not config.get("vocab_size") or not config.get("num_hidden_layers"):
        raise ConfigError(
            f"model.composed.language: {name} holds a '{config.get('model_type')}' model, which is no causal language "
            "model by itself; name one whose config.json has vocab_size and num_hidden_layers"
        )
    if layers is not None:
        if not 1 <= layers <= config["num_hidden_layers"]:
            raise ConfigError(
                f"model.composed.layers must be 1 to {config['num_hidden_layers']}, all that {name} has; got {layers}"
            )
        config["num_hidden_layers"] = layers
        if config.get("layer_types"):
            config["layer_types"] = config["layer_types"][:layers]
    return config


def completed_language(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with every default filled in."""
    return json.loads(_transformers_config(config).to_json_string(use_diff=False))


def build_language(config: Mapping[str, Any], dtype: torch.dtype, attention: str) -> nn.Module:
    """The model without a language-model head, random weights, caches off."""
    from transformers import AutoModel

    model = AutoModel.from_config(_transformers_config(config), dtype=dtype, attn_implementation=attention)
    model.config.use_cache = False
    return model.to(dtype)


def load_language(model: nn.Module, name: str) -> None:
    """Put pretrained weights into a built model, in place: of as many layers as it has; `tiny` stays random.

    Raises:
        CheckpointError: a weight is missing or of another shape.
    """
    if name == TINY:
        return
    own = model.state_dict()
    layers = int(model.config.num_hidden_layers)  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
    file = _gguf(name)
    if file is not None:
        state = GGUFFile(file).weights(layers)
    else:
        folder = local_folder(name, "model.composed.language", weights=True)
        state = {key.removeprefix("model."): value for key, value in read_weights(folder).items()}
        beyond = tuple(f"layers.{number}." for number in range(layers, layers + 1000))
        state = {k: v for k, v in state.items() if k in own or not k.startswith((*beyond, "lm_head.", "rotary_emb."))}
    check_keys(own, state, name)
    model.load_state_dict(state)


def language_tokenizer(name: str) -> TextTokenizer:
    """The model's tokenizer.

    Raises:
        ConfigError: it is not here and not to be had.
    """
    if name == TINY:
        return TextTokenizer.tiny()
    file = _gguf(name)
    if file is not None:
        return GGUFFile(file).tokenizer()
    return TextTokenizer.from_folder(local_folder(name, "model.composed.language", weights=False))


def _gguf(name: str) -> Path | None:
    if not name.endswith(".gguf"):
        return None
    path = find_local(name)
    if path is None or not path.is_file():
        raise ConfigError(f"model.composed.language: {name} does not exist")
    return path


def _transformers_config(config: Mapping[str, Any]) -> Any:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = str(config.get("model_type"))
    if kind not in CONFIG_MAPPING:
        raise ConfigError(f"model.composed.language: transformers has no model type '{kind}'")
    return CONFIG_MAPPING[kind].from_dict(dict(config))
