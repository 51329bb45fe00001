"""Adapters on disk, in peft's layout: read under old and new names of modules, written under today's. Strict."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmret.errors import CheckpointError
from mmret.models.backbones.vlm import own_name
from mmret.models.vlm2vec.adapter import COPIES, NAME, peft_config
from mmret.models.vlm2vec.soft_prompt import SoftPrompt
from mmret.models.weights import check_keys, read_weights

logger = logging.getLogger(__name__)

CONFIG, WEIGHTS = "adapter_config.json", ("adapter_model.safetensors", "adapter_model.bin")
PREFIX = "base_model.model."
PROMPT = "prompt_embeddings"
"""peft's name of learnt tokens."""


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


def load_adapter(vlm: nn.Module, folder: Path, backbone: str, prompt: SoftPrompt | None = None) -> None:
    """Read an adapter's tensors into a backbone with adapters of its configuration; names of old transformers fit too.

    Raises:
        CheckpointError: a tensor is missing, unknown or of another shape: an adapter for another base.
    """
    path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise CheckpointError(f"{folder} holds no adapter weights; expected one of {', '.join(WEIGHTS)}")
    made_for = json.loads((folder / CONFIG).read_text()).get("base_model_name_or_path")
    where = f"{path} (an adapter for {made_for or 'a base that it does not name'}) on the backbone {backbone}"
    state = read_weights(path)
    if prompt is not None:
        check_keys({PROMPT: prompt.vectors}, state, where)
        prompt.load_state_dict({"vectors": state[PROMPT]})
        return
    own = adapter_state(vlm)
    plain = {key.replace(COPIES, ""): key for key in own}
    projections = {key.rpartition(".")[2]: state.pop(key) for key in list(state) if key.startswith("base_model.vera_")}
    renamed = {}
    for key, value in state.items():
        bare = own_name(key.removeprefix(PREFIX), plain)
        live = bare if bare in plain else own_name(live_name(key), plain)
        renamed[plain.get(live, live)] = value
    check_keys(own, renamed, where)
    vlm.load_state_dict(renamed, strict=False)
    if projections:
        _set_projections(vlm, projections)


def save_adapter(
    vlm: nn.Module, settings: Mapping[str, Any], base: str, folder: Path, prompt: SoftPrompt | None = None
) -> None:
    """Write peft's two files, with today's names of transformers' modules."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = peft_config(settings)
    config.base_model_name_or_path, config.inference_mode = base, True
    if prompt is None:
        state = {f"{PREFIX}model.{file_name(key)}": value for key, value in adapter_state(vlm).items()}
    else:
        config.token_dim = prompt.vectors.shape[1]
        state = {PROMPT: prompt.vectors}
    config.save_pretrained(str(folder))
    contiguous = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    save_file(contiguous, folder / WEIGHTS[0], metadata={"format": "pt"})


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
    """The reverse of `live_name`; whole modules that train (`modules_to_save`) keep their own names."""
    if COPIES in key:
        return key.replace(COPIES, "")
    head, _, tail = key.rpartition(f".{NAME}")
    return head if tail == "" or head.endswith("magnitude_vector") else f"{head}{tail}"


def _set_projections(vlm: nn.Module, projections: Mapping[str, Tensor]) -> None:
    """VeRA's two random matrices as another library version drew them; all layers share them."""
    for module in vlm.modules():
        if getattr(module, "vera_lambda_b", None) is not None:
            for name, value in projections.items():
                getattr(module, name)[NAME].copy_(value)
            return
