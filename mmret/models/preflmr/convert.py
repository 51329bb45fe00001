"""Published PreFLMR and FLMR checkpoints: their layout in and out, without their code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor

from mmret.errors import CheckpointError, ConfigError
from mmret.models.backbones import TextTokenizer
from mmret.models.preflmr.build import tokenizer_in
from mmret.models.preflmr.checkpoint import contiguous, read_config
from mmret.models.preflmr.published import read_settings, write_settings
from mmret.models.weights import check_keys, read_weights

if TYPE_CHECKING:
    from mmret.models.preflmr.model import PreFLMR

VISION = "query_vision_encoder.vision_model.vision_model."
MAPPING = {
    "self_attention.query": "attention.self.query",
    "self_attention.key": "attention.self.key",
    "self_attention.value": "attention.self.value",
    "self_attention.out": "attention.output.dense",
    "self_norm": "attention.output.LayerNorm",
    "cross_attention.query": "crossattention.self.query",
    "cross_attention.key": "crossattention.self.key",
    "cross_attention.value": "crossattention.self.value",
    "cross_attention.out": "crossattention.output.dense",
    "cross_norm": "crossattention.output.LayerNorm",
    "ffn_in": "intermediate.dense",
    "ffn_out": "output.dense",
    "ffn_norm": "output.LayerNorm",
}
"""Parts of a mapping layer: ours -> published."""


def load_published(
    folder: Path,
    cls: type[PreFLMR],
    tokenizer: TextTokenizer | None = None,
    *,
    config_file: str = "config.json",
    weight_file: str | None = None,
) -> PreFLMR:
    """A model from a published folder (config.json, weights, tokenizer folders or vocab.txt).

    Args:
        folder: where it lies; nothing outside is read.
        cls: PreFLMR.
        tokenizer: in place of the folder's.
        config_file, weight_file: other file names in the folder.

    Raises:
        CheckpointError: keys missing, unknown, of wrong shape, or aliases that differ; all are listed.
    """
    settings = read_config(folder) if config_file == "config.json" else json.loads((folder / config_file).read_text())
    config, text, vision = read_settings(settings, folder)
    if tokenizer is None:
        try:
            tokenizer = tokenizer_in(folder)
        except ConfigError as error:
            raise CheckpointError(
                f"{error}; copy query_tokenizer/ and context_tokenizer/ (or vocab.txt) beside the weights, "
                "or name a folder with load(..., tokenizer=FOLDER)"
            ) from error
    model = cls(config, text=text, vision=vision, tokenizer=tokenizer)
    source = folder if weight_file is None else folder / weight_file
    state = without_aliases(read_weights(source), config.separate_text_encoders, str(source))
    names = published_names(model)
    own = model.state_dict()
    unused = unused_tensors(model)
    check_keys({**{name: own[key] for key, name in names.items()}, **unused}, state, str(source))
    model.load_state_dict({key: state[name] for key, name in names.items()})
    model.unused = {name: state[name] for name in unused}
    return model


def to_published(model: PreFLMR, folder: str | Path) -> None:
    """Write the model in the published layout, which the released code opens too.

    Raises:
        ConfigError: the model has parts which that layout cannot say (a text encoder that is no BERT, a vision tower
            that is no CLIP, several of our own settings).
    """
    folder = Path(folder)
    settings, extra_files = write_settings(model.config, model.text_spec, model.vision_spec)
    folder.mkdir(parents=True, exist_ok=True)
    own = model.state_dict()
    state = {
        **unused_tensors(model),
        **model.unused,
        **{name: own[key] for key, name in published_names(model).items()},
    }
    save_file(contiguous(state), folder / "model.safetensors", metadata={"format": "pt"})
    for name, content in {"config.json": settings, **extra_files}.items():
        (folder / name).write_text(json.dumps(content, indent=2))
    tokenizer = model.processor.tokens.tokenizer
    tokenizer.save(folder / "query_tokenizer", query_maxlen=model.config.query_tokens)
    tokenizer.save(folder / "context_tokenizer", doc_maxlen=model.config.document_tokens)


def published_names(model: PreFLMR) -> dict[str, str]:
    """Our state-dict keys -> the published ones."""
    return {key: published_name(key, model.config.separate_text_encoders) for key in model.state_dict()}


def published_name(key: str, separate: bool) -> str:
    """The published name of one of our keys; `separate`: each side has a text encoder."""
    part, _, rest = key.partition(".")
    document = "context" if separate else "query"
    side = {"document_text": document, "query_text": "query"}.get(part.removesuffix("_linear"))
    if side:
        return (
            f"{side}_text_encoder_linear.{rest}"
            if part.endswith("_linear")
            else f"{side}_text_encoder.bert_model.{rest}"
        )
    if part == "vision":
        return VISION + (f"encoder.{rest}" if rest.startswith("layers.") else rest)
    if part == "prefix":
        return f"query_vision_projection.model.{rest}"
    if part in ("mapping_in", "mapping_out"):
        return f"transformer_mapping_{'input' if part == 'mapping_in' else 'output'}_linear.{rest}"
    _, number, name = rest.split(".", 2)
    stem, _, kind = name.rpartition(".")
    return f"transformer_mapping_network.layer.{number}.{MAPPING[stem]}.{kind}"


def without_aliases(state: Mapping[str, Tensor], separate: bool, where: str) -> dict[str, Tensor]:
    """One name per tensor, as the released saver writes it.

    Raises:
        CheckpointError: two names of one tensor hold different values.
    """
    own: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    differing = []
    for key, value in state.items():
        if key.endswith("position_ids"):
            continue
        name = _canonical(key, separate)
        if name in own and not torch.equal(own[name], value):
            differing.append(f"{origin[name]} and {key}")
        own.setdefault(name, value)
        origin.setdefault(name, key)
    if differing:
        raise CheckpointError(
            f"{where}: names of one shared tensor hold different values:\n  " + "\n  ".join(differing)
        )
    return own


def unused_tensors(model: PreFLMR) -> dict[str, Tensor]:
    """What published files carry though nothing reads it (BERT's pooler, the vision tower's final norm), as no-ops."""
    width = model.text_spec.width
    unused = {}
    for side in ("context", "query") if model.config.separate_text_encoders else ("query",):
        stem = f"{side}_text_encoder.bert_model.pooler.dense"
        unused |= {f"{stem}.weight": torch.zeros(width, width), f"{stem}.bias": torch.zeros(width)}
    if model.vision_spec is not None:
        width = int(model.vision_spec.config["hidden_size"])
        unused |= {
            f"{VISION}post_layernorm.weight": torch.ones(width),
            f"{VISION}post_layernorm.bias": torch.zeros(width),
        }
    return unused


def _canonical(key: str, separate: bool) -> str:
    key = key.replace("context_vision_", "query_vision_", 1)
    if not separate:
        key = key.replace("context_text_", "query_text_", 1)
    key = key.replace("_text_encoder.text_model.", "_text_encoder.bert_model.", 1)
    stem, found, rest = key.rpartition("vision_model.")
    return VISION + rest if found and stem.startswith("query_vision_encoder.") else key
