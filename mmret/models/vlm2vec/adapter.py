"""Adapters through peft: put into a backbone, read from and written to peft's files, merged. Strict on every key."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmret.errors import CheckpointError, ConfigError
from mmret.models.backbones.vlm import own_name
from mmret.models.weights import check_keys, read_weights

logger = logging.getLogger(__name__)

CONFIG, WEIGHTS = "adapter_config.json", ("adapter_model.safetensors", "adapter_model.bin")
PREFIX = "base_model.model."
NAME = "default"
LORA_DEFAULTS: dict[str, Any] = {
    "r": 8,
    "lora_alpha": 64,
    "lora_dropout": 0.1,
    "init_lora_weights": "gaussian",
    "target_modules": [
        "qkv_proj",
        "o_proj",
        "gate_up_proj",
        "down_proj",
        "k_proj",
        "q_proj",
        "out_proj",
        "v_proj",
        "gate_proj",
        "up_proj",
    ],
}
"""VLM2Vec's: r of the released first version, targets of the second. Names are found by their ends."""


def peft_config(settings: Mapping[str, Any]) -> Any:
    """Configuration object in peft of a `peft:` section.

    Raises:
        ConfigError: no such type, or no such setting of it.
    """
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType

    given = dict(settings)
    kind = str(given.pop("type", "")).lower()
    if kind in ("lora", "dora"):
        given = {**LORA_DEFAULTS, **given, **({"use_dora": True} if kind == "dora" else {})}
    known = {type_.value.lower(): type_ for type_ in PeftType}
    name = "lora" if kind == "dora" else kind
    if name not in known:
        near = get_close_matches(name, [*known, "dora"], n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"model.peft.type: '{kind}'; want lora, dora or another of peft's types.{hint}")
    cls = PEFT_TYPE_TO_CONFIG_MAPPING[known[name]]
    for key in given:
        if key not in cls.__dataclass_fields__:
            near = get_close_matches(key, cls.__dataclass_fields__, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ConfigError(f"model.peft.{key}: {cls.__name__} has no such setting.{hint}")
    return cls(**given)


def inject(vlm: nn.Module, settings: Mapping[str, Any]) -> None:
    """Put fresh adapters into a backbone, in place.

    Raises:
        ConfigError: a setting is wrong, or no module has one of the target names.
    """
    from peft import inject_adapter_in_model

    config = peft_config(settings)
    if config.is_prompt_learning:
        raise ConfigError(f"model.peft.type: {settings['type']} puts tokens before the prompt, which is not built yet")
    try:
        inject_adapter_in_model(config, vlm, NAME)
    except ValueError as error:
        raise ConfigError(f"model.peft: {error}") from error


def adapter_state(vlm: nn.Module) -> dict[str, Tensor]:
    """The adapters' own tensors, by their names in the backbone."""
    return {key: value for key, value in vlm.state_dict().items() if f".{NAME}" in key}


def read_settings(folder: Path) -> dict[str, Any]:
    """A `peft:` section that says what an adapter folder's adapter_config.json says.

    Raises:
        CheckpointError: there is none, or it holds a type of adapter that peft does not know.
    """
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType

    path = folder / CONFIG
    if not path.is_file():
        raise CheckpointError(f"{folder} is no adapter: it has no {CONFIG}")
    found = json.loads(path.read_text())
    kind = str(found.get("peft_type", ""))
    if kind not in PeftType.__members__:
        raise CheckpointError(f"{path}: adapters of type '{kind}', which this peft does not know")
    fields = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType[kind]].__dataclass_fields__
    outside = {"peft_type", "task_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode"}
    ignored = sorted(key for key, value in found.items() if key not in fields and value)
    if ignored:
        logger.warning("%s: this peft does not know %s; they are left out", path, ", ".join(ignored))
    kept = {key: value for key, value in found.items() if key in fields and key not in outside and value is not None}
    return {"type": kind.lower(), **kept}


def base_of(folder: Path) -> str:
    """The backbone that an adapter was made for, as its configuration names it.

    Raises:
        CheckpointError: it names none.
    """
    name = json.loads((folder / CONFIG).read_text()).get("base_model_name_or_path")
    if not name:
        raise CheckpointError(f"{folder / CONFIG} names no base model; say which: load(folder, backbone=...)")
    return name


def load_adapter(vlm: nn.Module, folder: Path) -> None:
    """Read an adapter's tensors into a backbone with adapters of its configuration; names of old transformers fit too.

    Raises:
        CheckpointError: a tensor is missing, unknown or of another shape: an adapter for another base.
    """
    path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise CheckpointError(f"{folder} holds no adapter weights; expected one of {', '.join(WEIGHTS)}")
    own = adapter_state(vlm)
    renamed = {own_name(live_name(key), own): value for key, value in read_weights(path).items()}
    check_keys(own, renamed, str(path))
    vlm.load_state_dict(renamed, strict=False)


def save_adapter(vlm: nn.Module, settings: Mapping[str, Any], base: str, folder: Path) -> None:
    """Write peft's two files, with today's names of transformers' modules."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = peft_config(settings)
    config.base_model_name_or_path, config.inference_mode = base, True
    config.save_pretrained(str(folder))
    state = {f"{PREFIX}model.{file_name(key)}": value for key, value in adapter_state(vlm).items()}
    contiguous = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    save_file(contiguous, folder / WEIGHTS[0], metadata={"format": "pt"})


def merge(vlm: nn.Module) -> None:
    """Put the adapters' effect into the weights and take the adapters out, in place."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for path, layer in [(path, m) for path, m in vlm.named_modules() if isinstance(m, BaseTunerLayer)]:
        layer.merge(safe_merge=True)
        parent, _, name = path.rpartition(".")
        setattr(vlm.get_submodule(parent), name, layer.get_base_layer())


def live_name(key: str) -> str:
    """A file's tensor name as it is in a live model: the adapter's name stands in it, the wrapper's prefix does not."""
    key = key.removeprefix(PREFIX)
    if f".{NAME}" in key:
        return key
    if key.endswith("magnitude_vector"):
        return f"{key}.{NAME}.weight"
    head, dot, last = key.rpartition(".")
    return f"{head}.{NAME}.{last}" if dot and last in ("weight", "bias") else f"{key}.{NAME}"


def file_name(key: str) -> str:
    """The reverse of `live_name`."""
    head, _, tail = key.rpartition(f".{NAME}")
    return head if tail == "" or head.endswith("magnitude_vector") else f"{head}{tail}"
