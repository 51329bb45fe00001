"""Text encoders: token ids to hidden states [B, L, H]. BERT's family, or any other encoder through AutoModel."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmret.errors import CheckpointError, ConfigError
from mmret.models.backbones.source import find_local, folder_config, local_folder
from mmret.models.weights import read_weights

TINY = "tiny"
"""A random two-layer BERT over the built-in vocabulary, for tests."""

BERT_BASE: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}
"""bert-base-uncased's configuration."""
BERT_LARGE: dict[str, Any] = {
    **BERT_BASE,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "bert-base-uncased": BERT_BASE,
    "google-bert/bert-base-uncased": BERT_BASE,
    "colbert-ir/colbertv2.0": BERT_BASE,
    "bert-large-uncased": BERT_LARGE,
    "google-bert/bert-large-uncased": BERT_LARGE,
}
"""Sizes known without a download, so that a recipe can be checked anywhere."""


@dataclass(frozen=True)
class TextSpec:
    """Which text encoder: all that is needed to build it without a download."""

    config: dict[str, Any]
    """The transformers configuration, `model_type` included."""

    @property
    def width(self) -> int:
        """Size of a hidden state."""
        if "hidden_size" in self.config:
            return int(self.config["hidden_size"])
        return int(_transformers_config(self).hidden_size)  # some encoders call it dim or d_model

    @property
    def max_tokens(self) -> int:
        """Longest sequence that the position embeddings allow."""
        positions = int(self.config.get("max_position_embeddings", 2**31))
        # RoBERTa's family counts positions from the one after its padding id.
        return positions - self.config["pad_token_id"] - 1 if "roberta" in self.config["model_type"] else positions


def text_spec(name: str, *, download: bool = True, vocabulary: int | None = None) -> TextSpec:
    """The architecture that a recipe's `text` names.

    Args:
        name: hub id, folder, `package:...` or `tiny`. A folder may also be a PreFLMR checkpoint.
        download: ask the hub for a configuration that is not known here.
        vocabulary: size of the built-in vocabulary, for `tiny`.

    Raises:
        ConfigError: unknown here and not to be had.
    """
    if name == TINY:
        from mmret.models.backbones.tokenizer import TINY_VOCABULARY

        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        return TextSpec({**BERT_BASE, **sizes, "vocab_size": vocabulary or len(TINY_VOCABULARY)})
    folder = find_local(name)
    if folder is None and name in ARCHITECTURES:
        return TextSpec(ARCHITECTURES[name])
    if folder is None and not download:
        raise ConfigError(
            f"model.text: the size of '{name}' is not known offline; known: {', '.join(ARCHITECTURES)}. "
            "Download it to a folder and set model.text=FOLDER"
        )
    folder = folder or local_folder(name, "model.text", weights=False)
    config = folder_config(folder, "model.text")
    if config.get("model_type") == "flmr":  # a PreFLMR checkpoint writes only what differs from BERT-base
        return TextSpec({**BERT_BASE, **config.get("text_config", {}), "model_type": "bert"})
    if "mmret_model" in config:
        return TextSpec(config["text_backbone"])
    if "model_type" not in config:
        raise ConfigError(f"model.text: {folder}/config.json names no model_type")
    spec, kind = TextSpec(config), config["model_type"]
    try:
        reads_text = hasattr(_transformers_config(spec), "vocab_size")
    except Exception as error:  # an unknown kind, or sizes that do not fit: checks of two packages
        why = " ".join(str(error).split())
        raise ConfigError(
            f"model.text: {folder} holds a '{kind}' model that transformers cannot build ({why})"
        ) from error
    if not reads_text:
        raise ConfigError(f"model.text: {folder} holds a '{kind}' model, which reads no text; want an encoder of texts")
    return spec


def build_text(spec: TextSpec) -> nn.Module:
    """The encoder with random weights. Its pooler is left out: late interaction reads every token's state."""
    from transformers import AutoModel

    return _without_pooler(AutoModel.from_config(_transformers_config(spec), dtype=torch.float32))


def load_text(name: str, dim: int) -> tuple[nn.Module, torch.Tensor | None]:
    """The encoder with its pretrained weights and, from a ColBERT checkpoint, the projection [dim, H] beside it.

    Raises:
        ConfigError: not here and not to be had; or the projection has another size than `dim`.
        CheckpointError: the weights lack part of the encoder.
    """
    from transformers import AutoModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    folder = local_folder(name, "model.text", weights=True)
    kind = json.loads((folder / "config.json").read_text())
    if kind.get("model_type") == "flmr" or "mmret_model" in kind:
        raise ConfigError(
            f"model.text: {folder} is a PreFLMR checkpoint; it gives the architecture here, its weights come in "
            "through the stage's init_from"
        )
    model, info = AutoModel.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, local_files_only=True, trust_remote_code=False
    )
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise CheckpointError(f"{folder} lacks {len(missing)} tensors of its text encoder: {', '.join(missing[:8])}")
    return _without_pooler(model), _projection(folder, dim)


def _projection(folder: Path, dim: int) -> torch.Tensor | None:
    """ColBERT's `linear.weight`, which a plain encoder's checkpoint does not have."""
    projection = read_weights(folder).get("linear.weight")
    if projection is not None and projection.shape[0] != dim:
        raise ConfigError(
            f"model.dim is {dim}, but the ColBERT checkpoint {folder} projects to {projection.shape[0]}; "
            "set model.dim to that"
        )
    return None if projection is None else projection.float()


def _transformers_config(spec: TextSpec) -> Any:
    from transformers import AutoConfig

    return AutoConfig.for_model(**{k: v for k, v in spec.config.items() if k not in ("dtype", "torch_dtype")})


def _without_pooler(model: nn.Module) -> nn.Module:
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
    return model
