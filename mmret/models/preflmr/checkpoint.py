"""A PreFLMR checkpoint of ours on disk: config.json (settings and both towers' architectures), weights, tokenizer/."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file
from torch import Tensor

import mmret
from mmret.errors import CheckpointError, ConfigError
from mmret.models.backbones import TextSpec, VisionSpec
from mmret.models.backbones.source import folder_config
from mmret.models.preflmr.build import tokenizer_in, tokenizer_of
from mmret.models.preflmr.config import PreFLMRConfig
from mmret.models.weights import load_strictly, read_weights

if TYPE_CHECKING:
    from mmret.models.preflmr.model import PreFLMR

UNUSED = "unused.safetensors"
"""What a published checkpoint carries though nothing reads it: only for the way back."""


def save(model: PreFLMR, folder: str | Path) -> None:
    """Write a folder that `load` opens without anything else: no hub, no package, no recipe."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(contiguous(model.state_dict()), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / UNUSED).unlink(missing_ok=True)
    if model.unused:
        save_file(contiguous(model.unused), folder / UNUSED)
    model.processor.tokens.tokenizer.save(folder / "tokenizer")
    settings = {
        "mmret_model": model.config.name,
        "mmret_version": mmret.__version__,
        "config": asdict(model.config),
        "text_backbone": model.text_spec.config,
        "vision_backbone": None if model.vision_spec is None else model.vision_spec.to_dict(),
    }
    (folder / "config.json").write_text(json.dumps(settings, indent=1))


def load(folder: Path, overrides: Mapping[str, Any], cls: type[PreFLMR]) -> PreFLMR:
    """A checkpoint of ours or a published one, with settings changed.

    Raises:
        CheckpointError: no checkpoint, or it does not fit its configuration.
        ConfigError: an override is no setting, or does not fit the weights.
    """
    known = [item.name for item in fields(PreFLMRConfig)]
    for key in overrides:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            raise ConfigError(f"PreFLMR has no setting {key}" + (f". Did you mean {near[0]}?" if near else ""))
    settings = read_config(folder)
    tokenizer = (
        tokenizer_of(replace(PreFLMRConfig(), tokenizer=overrides["tokenizer"])) if "tokenizer" in overrides else None
    )
    if settings.get("model_type") == "flmr":
        from mmret.models.preflmr.convert import load_published

        model = load_published(folder, cls, tokenizer)
    elif settings.get("mmret_model") == "preflmr":
        unknown = sorted(settings["config"].keys() - set(known))
        if unknown:
            raise CheckpointError(
                f"{folder}/config.json has settings this version does not know: {', '.join(unknown)} "
                f"(written by mmret {settings.get('mmret_version')}, this is {mmret.__version__})"
            )
        vision = settings["vision_backbone"]
        model = cls(
            PreFLMRConfig(**settings["config"]),
            text=TextSpec(settings["text_backbone"]),
            vision=None if vision is None else VisionSpec.from_dict(vision),
            tokenizer=tokenizer or tokenizer_in(folder),
        )
        load_strictly(model, read_weights(folder), str(folder))
        if (folder / UNUSED).is_file():
            model.unused = load_file(folder / UNUSED)
    else:
        found = settings.get("mmret_model") or settings.get("model_type")
        raise CheckpointError(f"{folder} holds a '{found}' model, not PreFLMR")
    return with_config(model, replace(model.config, **overrides)) if overrides else model


def with_config(model: PreFLMR, config: PreFLMRConfig) -> PreFLMR:
    """A model with these weights and towers under other settings; parts that are new start as a stage hands them over.

    Raises:
        ConfigError: a setting asks for other sizes than the weights have.
    """
    other = type(model)(
        config, text=model.text_spec, vision=model.vision_spec, tokenizer=model.processor.tokens.tokenizer
    )
    own, state = model.state_dict(), other.state_dict()
    for key in state:
        source = key if key in own else other.handover_source(key)
        if source not in own:
            continue
        if own[source].shape != state[key].shape:
            raise ConfigError(
                f"the settings asked for make {key} {tuple(state[key].shape)}, "
                f"but the checkpoint has {tuple(own[source].shape)}"
            )
        state[key] = own[source]
    other.load_state_dict(state)
    other.unused = dict(model.unused)
    return other


def read_config(folder: Path) -> dict[str, Any]:
    """A checkpoint's config.json.

    Raises:
        CheckpointError: there is none, or it is no JSON object.
    """
    try:
        return folder_config(folder, "checkpoint")
    except ConfigError as error:
        raise CheckpointError(str(error)) from error


def contiguous(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors wants them: on the CPU, contiguous, none sharing memory with another."""
    return {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
