"""The published config.json of PreFLMR and FLMR to our settings and back. It holds only what differs from defaults."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmret.errors import CheckpointError, ConfigError
from mmret.models.backbones.text import BERT_BASE, BERT_LARGE, TextSpec
from mmret.models.backbones.vision import CLIP_BASE, VisionSpec
from mmret.models.preflmr.config import PreFLMRConfig

TOP: dict[str, Any] = {
    "mask_punctuation": True,
    "mapping_network_prefix_length": 32,
    "dim": 128,
    "use_vision_encoder": True,
    "separate_query_and_context_text_encoder": False,
    "separate_query_and_context_vision_encoder": False,
    "query_concat_output_from_vision_encoder": True,
    "query_concat_output_from_text_encoder": True,
    "context_concat_output_from_vision_encoder": False,
    "context_concat_output_from_text_encoder": True,
    "use_transformer_mapping_network": False,
    "transformer_mapping_config_base": None,
    "transformer_mapping_num_hidden_layers": None,
    "mask_instruction_token": None,
    "transformer_mapping_cross_attention_length": 32,
    "query_mask_input_ids_skip_list": [],
    "vision_model_version": "openai/clip-vit-base-patch32",
}
"""Defaults of the released configuration class."""
TEXT_EXTRA = {"text_encoder_base_model": "bert-base-uncased", "query_maxlen": 32, "projection_dim": 0}
"""Fields of its text_config that are not BERT's."""
MAPPING_BASES = {"bert-base-uncased": BERT_BASE, "bert-large-uncased": BERT_LARGE}
"""Base configurations that a checkpoint names instead of bringing them."""
BASE_FILE = "mapping_base_config.json"


def read_settings(settings: Mapping[str, Any], folder: Path) -> tuple[PreFLMRConfig, TextSpec, VisionSpec | None]:
    """Our settings and the towers' architectures.

    Raises:
        CheckpointError: the configuration asks for something we do not build, or names a file that is not there.
    """
    top = {**TOP, **settings}
    text = {**TEXT_EXTRA, **BERT_BASE, **(top.get("text_config") or {})}
    if top["separate_query_and_context_vision_encoder"]:
        raise CheckpointError(f"{folder}: separate vision encoders for queries and documents are not supported")
    spec = TextSpec({**{key: text[key] for key in BERT_BASE}, "model_type": "bert"})
    vision = None
    if top["use_vision_encoder"]:
        tower = {**CLIP_BASE, **(top.get("vision_config") or {})}
        tower = {key: tower[key] for key in CLIP_BASE}
        vision = VisionSpec("clip", tower, tower["image_size"])
    config = PreFLMRConfig(
        text=text["text_encoder_base_model"],
        vision=top["vision_model_version"] if vision else None,
        separate_text_encoders=top["separate_query_and_context_text_encoder"],
        dim=top["dim"],
        prefix_tokens=top["mapping_network_prefix_length"],
        use_mapping=bool(top["use_transformer_mapping_network"]),
        cross_attention_tokens=top["transformer_mapping_cross_attention_length"],
        query_tokens=_length(folder / "query_tokenizer", "query_maxlen", text["query_maxlen"], spec),
        document_tokens=_length(folder / "context_tokenizer", "doc_maxlen", 512, spec),
        instruction_separator=top["mask_instruction_token"],
        query_skip_ids=list(top["query_mask_input_ids_skip_list"]),
        mask_punctuation=top["mask_punctuation"],
        query_text_in_score=top["query_concat_output_from_text_encoder"],
        query_vision=top["query_concat_output_from_vision_encoder"],
        document_text_in_score=top["context_concat_output_from_text_encoder"],
        document_vision=top["context_concat_output_from_vision_encoder"],
        **(_mapping(top, spec, folder) if top["use_transformer_mapping_network"] else {}),
    )
    return config, spec, vision


def _mapping(top: Mapping[str, Any], text: TextSpec, folder: Path) -> dict[str, Any]:
    """Heads, feed-forward and dropout come from a base configuration of their own, not from the text encoder's."""
    name = str(top["transformer_mapping_config_base"])
    path = folder / name / "config.json" if (folder / name).is_dir() else folder / name
    if path.is_file():
        base = {**BERT_BASE, **json.loads(path.read_text())}
    elif name in MAPPING_BASES:
        base = MAPPING_BASES[name]
    else:
        raise CheckpointError(
            f"{folder}/config.json: transformer_mapping_config_base '{name}' is no file in the folder, and none of "
            f"{', '.join(MAPPING_BASES)}; put that model's config.json there under this name"
        )
    if base["hidden_size"] != text.width:
        raise CheckpointError(f"{folder}: mapping network of width {base['hidden_size']}, text encoder of {text.width}")
    return {
        "mapping_layers": top["transformer_mapping_num_hidden_layers"] or base["num_hidden_layers"],
        "mapping_heads": base["num_attention_heads"],
        "mapping_ffn": base["intermediate_size"],
        "mapping_dropout": base["hidden_dropout_prob"],
        "mapping_attention_dropout": base["attention_probs_dropout_prob"],
        "mapping_activation": base["hidden_act"],
        "mapping_norm_eps": base["layer_norm_eps"],
    }


def _length(folder: Path, key: str, otherwise: int, text: TextSpec) -> int:
    path = folder / "tokenizer_config.json"
    stored = json.loads(path.read_text()).get(key) if path.is_file() else None
    return min(int(stored or otherwise), text.max_tokens)


def write_settings(
    config: PreFLMRConfig, text: TextSpec, vision: VisionSpec | None
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """config.json in the published layout, and further JSON files by name.

    Raises:
        ConfigError: the layout cannot say what this model is.
    """
    released = PreFLMRConfig()
    cannot = [
        f"model.{key}={getattr(config, key)}"
        for key in ("query_marker", "document_marker", "fill_query", "cross_attention_sees")
        if getattr(config, key) != getattr(released, key)
    ]
    if config.image_fit not in (None, "crop"):
        cannot.append(f"model.image_fit={config.image_fit}")
    if text.config.get("model_type") != "bert":
        cannot.append(f"a {text.config.get('model_type')} text encoder")
    if vision is not None and vision.kind != "clip":
        cannot.append(f"a {vision.kind} vision tower")
    if cannot:
        raise ConfigError("the published layout has no place for " + ", ".join(cannot))
    settings = {
        **TOP,
        "architectures": ["FLMRModelForRetrieval"],
        "model_type": "flmr",
        "torch_dtype": "float32",
        "load_cpu_extension": False,
        "initializer_range": 0.02,
        "mask_punctuation": config.mask_punctuation,
        "mapping_network_prefix_length": config.prefix_tokens,
        "dim": config.dim,
        "use_vision_encoder": vision is not None,
        "separate_query_and_context_text_encoder": config.separate_text_encoders,
        "query_concat_output_from_vision_encoder": config.query_vision,
        "query_concat_output_from_text_encoder": config.query_text_in_score,
        "context_concat_output_from_vision_encoder": config.document_vision,
        "context_concat_output_from_text_encoder": config.document_text_in_score,
        "use_transformer_mapping_network": config.maps_patches,
        "mask_instruction_token": config.instruction_separator,
        "transformer_mapping_cross_attention_length": config.cross_attention_tokens,
        "query_mask_input_ids_skip_list": list(config.query_skip_ids),
        "vision_model_version": config.vision or TOP["vision_model_version"],
        "text_config": {
            **_changed(text.config, BERT_BASE),
            "model_type": "flmr_text_model",
            "query_maxlen": config.query_tokens,
        },
        "vision_config": {**_changed(vision.config if vision else {}, CLIP_BASE), "model_type": "flmr_vision_model"},
    }
    if config.text != TEXT_EXTRA["text_encoder_base_model"]:
        settings["text_config"]["text_encoder_base_model"] = config.text
    files = {}
    if config.maps_patches:
        base = {
            **BERT_BASE,
            "hidden_size": text.width,
            "num_attention_heads": config.mapping_heads or max(1, text.width // 64),
            "intermediate_size": config.mapping_ffn or 4 * text.width,
            "hidden_dropout_prob": config.mapping_dropout,
            "attention_probs_dropout_prob": config.mapping_attention_dropout,
            "hidden_act": config.mapping_activation,
            "layer_norm_eps": config.mapping_norm_eps,
        }
        known = next((name for name, values in MAPPING_BASES.items() if _same_layer(values, base)), None)
        settings["transformer_mapping_config_base"] = known or BASE_FILE
        settings["transformer_mapping_num_hidden_layers"] = config.mapping_layers
        if known is None:
            files[BASE_FILE] = base
    return settings, files


def _changed(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {key: values[key] for key in defaults if key in values and values[key] != defaults[key]}


def _same_layer(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one[key] == other[key] for key in one if key != "num_hidden_layers")
