"""VLM2Vec on disk: our own folders, published full models, published adapters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file

import mmret
from mmret.errors import CheckpointError, ConfigError
from mmret.models.backbones.source import local_folder
from mmret.models.backbones.tokenizer import TextTokenizer
from mmret.models.backbones.vlm import (
    TINY,
    VLMSpec,
    load_published,
    load_vlm,
    read_pictures,
    read_spec,
    tiny_tokenizer,
    vlm_spec,
)
from mmret.models.backbones.vlm_composed import composed_tokenizer
from mmret.models.backbones.vlm_table import TINY_FAMILY
from mmret.models.vlm2vec import adapter, adapter_file
from mmret.models.vlm2vec.config import VLM2VecConfig
from mmret.models.vlm2vec.quantize import full_weights
from mmret.models.weights import load_strictly, read_weights

if TYPE_CHECKING:
    from mmret.models.vlm2vec.model import VLM2Vec


def tokenizer_of(config: VLM2VecConfig) -> TextTokenizer:
    """A backbone's tokenizer.

    Raises:
        ConfigError: it is not here and not to be had.
    """
    backbone = config.backbone
    if config.composed is not None:
        return composed_tokenizer(config.composed)
    if backbone == TINY or backbone.startswith(f"{TINY}:"):
        return tiny_tokenizer(backbone.partition(":")[2] or TINY_FAMILY)
    return TextTokenizer.from_folder(local_folder(backbone, "model.backbone", weights=False))


def without_peft(config: VLM2VecConfig) -> VLM2VecConfig:
    """The configuration of the bare backbone."""
    return replace(config, peft={})


def with_peft(model: VLM2Vec, config: VLM2VecConfig) -> VLM2Vec:
    """A bare model with fresh adapters, in place. They come after the weights: DoRA measures those."""
    model.config = config
    model._inject()
    return model


def opened_anywhere(config: VLM2VecConfig) -> VLM2VecConfig:
    """What a checkpoint says: 4-bit weights are written in full width, so QLoRA's opens as LoRA's."""
    return replace(config, peft={**config.peft, "type": "lora"}) if adapter.kind_of(config.peft) == "qlora" else config


def save(model: VLM2Vec, folder: Path) -> None:
    """Write a folder that `load` opens without anything else."""
    folder.mkdir(parents=True, exist_ok=True)
    quantized = {f"vlm.{key}": value for key, value in full_weights(model.vlm).items()}
    state = {key: value.detach().cpu().contiguous() for key, value in {**model.state_dict(), **quantized}.items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    model.processor.tokenizer.save(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(model.spec.pictures, indent=1))
    settings = {
        "mmret_model": model.config.name,
        "mmret_version": mmret.__version__,
        "config": asdict(opened_anywhere(model.config)),
        "backbone": model.spec.config,
    }
    (folder / "config.json").write_text(json.dumps(settings, indent=1))


def load(folder: Path, overrides: Mapping[str, Any], cls: type[VLM2Vec]) -> VLM2Vec:
    """A checkpoint of ours or a published one, with settings changed.

    Raises:
        CheckpointError: no checkpoint, or it does not fit its configuration.
        ConfigError: an override is no setting, or an adapter's base is not to be had.
    """
    known = [item.name for item in fields(VLM2VecConfig)]
    for key in overrides:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            raise ConfigError(f"VLM2Vec has no setting {key}" + (f". Did you mean {near[0]}?" if near else ""))
    path = folder / "config.json"
    settings = json.loads(path.read_text()) if path.is_file() else {}
    if "mmret_model" in settings:
        return _load_own(folder, settings, overrides, cls)
    if (folder / adapter_file.CONFIG).is_file():
        return _load_adapter(folder, overrides, cls)
    config = VLM2VecConfig(**{"backbone": str(folder), **overrides})
    model = cls(without_peft(config), spec=read_spec(folder), tokenizer=TextTokenizer.from_folder(folder))
    load_published(model.vlm, read_weights(folder), str(folder))
    return with_peft(model, config)


def _load_own(folder: Path, settings: dict[str, Any], overrides: Mapping[str, Any], cls: type[VLM2Vec]) -> VLM2Vec:
    if settings["mmret_model"] != "vlm2vec":
        raise CheckpointError(f"{folder} holds a '{settings['mmret_model']}' model, not VLM2Vec")
    unknown = sorted(settings["config"].keys() - {item.name for item in fields(VLM2VecConfig)})
    if unknown:
        raise CheckpointError(
            f"{folder}/config.json has settings this version does not know: {', '.join(unknown)} "
            f"(written by mmret {settings.get('mmret_version')}, this is {mmret.__version__})"
        )
    if "peft" in overrides:
        raise ConfigError("peft cannot be changed while loading; merge first (`merged`), or change it between stages")
    config = VLM2VecConfig(**{**settings["config"], **overrides})
    pictures = json.loads((folder / "preprocessor_config.json").read_text())
    spec = VLMSpec(settings["backbone"], pictures)
    model = cls(config, spec=spec, tokenizer=TextTokenizer.from_folder(folder))
    load_strictly(model, read_weights(folder / "model.safetensors"), str(folder))
    return model


def _load_adapter(folder: Path, overrides: Mapping[str, Any], cls: type[VLM2Vec]) -> VLM2Vec:
    backbone = str(overrides.get("backbone") or adapter_file.base_of(folder))
    config = VLM2VecConfig(**{**overrides, "backbone": backbone, "peft": adapter_file.read_settings(folder)})
    spec = vlm_spec(backbone)
    # Adapters' folders bring the tokenizer and picture settings that they were trained with.
    spec = replace(spec, pictures=read_pictures(folder) or spec.pictures)
    own = (folder / "tokenizer.json").is_file()
    model = cls(without_peft(config), spec=spec, tokenizer=TextTokenizer.from_folder(folder) if own else None)
    load_vlm(model.vlm, backbone)
    with_peft(model, config)
    adapter_file.load_adapter(model.vlm, folder, backbone, model.prompt)
    return model
