"""Adapters through peft: what a `peft:` section means, putting adapters into a backbone and taking them out again."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from torch import nn

from mmret.errors import ConfigError
from mmret.models.vlm2vec.quantize import dequantize

NAME = "default"
COPIES = f".modules_to_save.{NAME}"
"""In names of whole modules that train beside the adapters."""
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
DEFAULTS: dict[str, dict[str, Any]] = {
    "lora": LORA_DEFAULTS,
    "dora": {**LORA_DEFAULTS, "use_dora": True},
    "qlora": LORA_DEFAULTS,
    # Its random matrices are drawn again from their seed: in a file they would be larger than all that trains.
    "vera": {"target_modules": LORA_DEFAULTS["target_modules"], "save_projection": False},
    # Liu et al. 2022 (Sec. 3.3): keys, values, and what enters the feed-forward's last layer.
    "ia3": {"target_modules": ["k_proj", "v_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
    # Lester et al. 2021 (Sec. 3.2): beginning with words of the vocabulary.
    "prompt_tuning": {"num_virtual_tokens": 20, "prompt_tuning_init": "SAMPLE_VOCAB"},
}
"""By type, what a `peft:` section leaves out."""
OWN_NAMES = {"dora": "lora", "qlora": "lora"}
"""Our types that are settings of one of peft's."""


def kind_of(settings: Mapping[str, Any]) -> str:
    """The type of a `peft:` section; "" without one."""
    return str(settings.get("type", "")).lower()


def peft_config(settings: Mapping[str, Any]) -> Any:
    """Configuration object in peft of a `peft:` section.

    Raises:
        ConfigError: no such type, or no such setting of it.
    """
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType

    kind = kind_of(settings)
    given = {**DEFAULTS.get(kind, {}), **{key: value for key, value in settings.items() if key != "type"}}
    known = {type_.value.lower(): type_ for type_ in PeftType}
    name = OWN_NAMES.get(kind, kind)
    if name not in known:
        near = get_close_matches(name, [*known, *OWN_NAMES], n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(
            f"model.peft.type: '{kind}'; want lora, dora, qlora, vera, ia3, prompt_tuning or another of peft's.{hint}"
        )
    cls = PEFT_TYPE_TO_CONFIG_MAPPING[known[name]]
    for key in given:
        if key not in cls.__dataclass_fields__:
            near = get_close_matches(key, cls.__dataclass_fields__, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ConfigError(f"model.peft.{key}: {cls.__name__} has no such setting.{hint}")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Specified to not save vera_A")
            return cls(**given)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model.peft: {error}") from error


def inject(vlm: nn.Module, settings: Mapping[str, Any]) -> None:
    """Put fresh adapters into a backbone, in place. Learnt tokens are no adapters of a module: see `soft_prompt.py`.

    Raises:
        ConfigError: a setting is wrong, or no module has one of the target names.
    """
    from peft import inject_adapter_in_model
    from peft.tuners.vera import VeraModel

    if kind_of(settings) == "prompt_tuning":
        return
    config = peft_config(settings)
    if config.is_prompt_learning:
        raise ConfigError(
            f"model.peft.type: {settings['type']} reaches into attention or computes its tokens; of the methods that "
            "put something before the prompt only prompt_tuning is built"
        )
    try:
        if kind_of(settings) == "vera":  # its layers share two matrices; in this version peft injects it by its class
            VeraModel(vlm, config, NAME)
        else:
            inject_adapter_in_model(config, vlm, NAME)
    except ValueError as error:
        raise ConfigError(f"model.peft: {error}") from error
    for name, tensor in (*vlm.named_parameters(), *vlm.named_buffers()):
        # In bfloat16 small updates get lost. Adapters cast their inputs; whole modules do not.
        if f".{NAME}" in name and COPIES not in name:
            tensor.data = tensor.data.float()


def pattern(settings: Mapping[str, Any]) -> str:
    """Regex of the parameters' names in a `VLM2Vec` that train with these adapters: theirs, and biases if asked for."""
    biases = {"all": r"|bias$", "none": ""}.get(str(settings.get("bias", "none")), r"|base_layer\.bias$")
    return rf"\.{NAME}(\.|$)|(^|\.)prompt\.vectors$" + biases


def merge(vlm: nn.Module) -> None:
    """Put the adapters' effect into the weights and take the adapters out, in place."""
    dequantize(vlm)
    _take_out(vlm, keep_effect=True)


def renew(vlm: nn.Module, settings: Mapping[str, Any]) -> None:
    """Fresh adapters instead of those that are there, by the weights that are there now (DoRA measures them)."""
    _take_out(vlm, keep_effect=False)
    inject(vlm, settings)


def _take_out(vlm: nn.Module, keep_effect: bool) -> None:
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper, ModulesToSaveWrapper

    for path, layer in list(vlm.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            if keep_effect:
                layer.merge(safe_merge=True)
            bare: Any = layer.get_base_layer()
        elif isinstance(layer, ModulesToSaveWrapper):
            bare = layer.modules_to_save[NAME] if keep_effect else layer.original_module
        elif isinstance(layer, AuxiliaryTrainingWrapper):
            raise ConfigError(f"model.peft: {type(layer).__name__} ({path}) cannot be merged")
        else:
            continue
        parent, _, name = path.rpartition(".")
        setattr(vlm.get_submodule(parent), name, bare)
    if hasattr(vlm, "peft_config"):  # peft's note that there are adapters
        del vlm.peft_config
