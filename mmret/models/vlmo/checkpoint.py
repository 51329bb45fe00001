"""VLMo checkpoints on disk: ours (config.json, weights, tokenizer/), published VLMo files, BEiT files."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file
from torch import Tensor

import mmret
from mmret.errors import CheckpointError, ConfigError
from mmret.models.backbones import TextTokenizer
from mmret.models.vlmo.config import VLMoConfig
from mmret.models.vlmo.convert import from_beit, from_published, is_beit, read_container
from mmret.models.vlmo.infer import beit_window, infer_beit, infer_config
from mmret.models.vlmo.resize import TABLE, resize_offsets
from mmret.models.weights import check_keys, load_strictly, read_weights

if TYPE_CHECKING:
    from mmret.models.vlmo.model import VLMo

logger = logging.getLogger(__name__)

_OF_BEIT = re.compile(r"backbone\.(image|positions)\.|backbone\.blocks\.\d+\.(attention|gamma|experts\.(image|all)\.)")


def save(model: VLMo, folder: str | Path) -> None:
    """Write a folder that `load` opens; without a tokenizer, and with a warning, where the vocabulary is not here."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config = asdict(replace(model.config.resolved, weights=None, vocabulary=model.num_tokens))
    settings = {"mmret_model": model.config.name, "mmret_version": mmret.__version__, "config": config}
    (folder / "config.json").write_text(json.dumps(settings, indent=1))
    try:
        model.processor.tokenizer.save(folder / "tokenizer")
    except ConfigError as error:
        logger.warning("%s is saved without its tokenizer: %s", folder, error)


def load(path: Path, overrides: Mapping[str, Any], cls: type[VLMo]) -> VLMo:
    """Open a checkpoint with settings changed.

    Raises:
        CheckpointError: not a checkpoint we know, or entries are missing, unknown or of another shape.
        ConfigError: an override is no setting.
    """
    known = [item.name for item in fields(VLMoConfig)]
    for key in overrides:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            raise ConfigError(f"VLMo has no setting {key}" + (f". Did you mean {near[0]}?" if near else ""))
    if path.is_dir() and (path / "config.json").is_file():
        return _load_own(path, overrides, known, cls)
    state = read_container(path)
    if is_beit(state):
        model = cls(infer_beit(state, **overrides))
        _refuse_part_of_beit(start_from(model, path), path)
        return model
    parts = from_published(state)
    if parts.missing_of_heads:
        raise CheckpointError(
            f"{path} has heads in part; missing: {', '.join(parts.missing_of_heads)}. The file is not whole: fetch it "
            "again, or take the rest of these heads out"
        )
    model = cls(infer_config(parts.model, str(path), **overrides))
    load_strictly(model, {**model.adapt_state(parts.model), **parts.unknown}, str(path))
    return model


def start_from(model: VLMo, path: Path) -> dict[str, list[str]]:
    """Take what a checkpoint has; the rest of the model keeps its start.

    Returns:
        "loaded" and "fresh" names of the model, "unused" ones of the checkpoint.

    Raises:
        CheckpointError: an entry has another shape, or nothing fits.
    """
    stored, unused = own_names(path, model)
    stored = model.adapt_state(stored)
    state = model.state_dict()
    fits = {key: value for key, value in stored.items() if key in state}
    if not fits:
        raise CheckpointError(f"{path} has no entry of a VLMo or BEiT model")
    check_keys({key: state[key] for key in fits}, fits, str(path))
    model.load_state_dict(fits, strict=False)
    report = {
        "loaded": list(fits),
        "fresh": [key for key in state if key not in fits],
        "unused": [*(key for key in stored if key not in state), *unused],
    }
    logger.info("%s: %s", path, ", ".join(f"{len(names)} {kind}" for kind, names in report.items()))
    return report


def _refuse_part_of_beit(report: dict[str, list[str]], path: Path) -> None:
    """BEiT has no text parts, heads or VL experts; all else must be there, and nothing more."""
    missing = [key for key in report["fresh"] if _OF_BEIT.match(key)]
    problems = [f"missing: {key}" for key in missing] + [f"unknown: {key}" for key in report["unused"]]
    if problems:
        raise CheckpointError(f"{path} is no whole BEiT ({len(problems)} problems):\n  " + "\n  ".join(problems))


def _load_own(path: Path, overrides: Mapping[str, Any], known: list[str], cls: type[VLMo]) -> VLMo:
    settings = json.loads((path / "config.json").read_text())
    if settings.get("mmret_model") != "vlmo":
        raise CheckpointError(f"{path} holds a '{settings.get('mmret_model')}' model, not VLMo")
    unknown = sorted(settings["config"].keys() - set(known))
    if unknown:
        raise CheckpointError(
            f"{path}/config.json has settings this version does not know: {', '.join(unknown)} "
            f"(written by mmret {settings.get('mmret_version')}, this is {mmret.__version__})"
        )
    own = "tokenizer" not in overrides and (path / "tokenizer").is_dir()
    tokenizer = TextTokenizer.from_folder(path / "tokenizer") if own else None
    model = cls(VLMoConfig(**{**settings["config"], **overrides}), tokenizer)
    load_strictly(model, model.adapt_state(read_weights(path)), str(path))
    return model


def own_names(path: Path, model: VLMo) -> tuple[dict[str, Tensor], list[str]]:
    """A checkpoint's state in our names, BEiT's tables resampled for `model`; and its entries that have none."""
    state = read_container(path)
    if any(key.startswith("backbone.") for key in state):
        return state, []
    if not is_beit(state):
        parts = from_published(state)
        return parts.model, [*parts.unknown, *parts.objectives]
    before, after = beit_window(state), model.config.window
    parts = from_beit(state, model.state_dict().get(TABLE), lambda table: resize_offsets(table, before, after))
    return parts.model, list(parts.unknown)
