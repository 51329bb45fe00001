"""Where a backbone's files lie: a local folder, a folder inside an installed package, or a model hub's local cache."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from mmret.errors import ConfigError

PACKAGE = "package:"
CONFIG_FILES = ["*.json", "*.txt", "*.model"]
WEIGHT_FILES = [
    ["*.safetensors", "*.safetensors.index.json"],
    ["pytorch_model*.bin", "pytorch_model.bin.index.json", "adapter_model.bin"],
]


def find_local(name: str) -> Path | None:
    """The file or folder that `name` means on this machine; None if it must be a hub id.

    `package:PACKAGE/PATH` is a path inside an installed Python package.

    Raises:
        ConfigError: the package is not installed or has no such path; a path that looks local does not exist.
    """
    if name.startswith(PACKAGE):
        package, _, inside = name[len(PACKAGE) :].partition("/")
        try:
            spec = importlib.util.find_spec(package)
        except (ImportError, ValueError):  # of "a.b" where there is no a; of a name that cannot be one
            spec = None
        folders = list(spec.submodule_search_locations or []) if spec else []
        if not folders:
            raise ConfigError(f"{name}: the Python package {package} is not installed; try: pip install 'mmret[demo]'")
        path = Path(folders[0]) / inside
        if not path.exists():
            raise ConfigError(f"{name}: {package} has no {inside} (looked for {path})")
        return path
    path = Path(name).expanduser()
    if path.exists():
        return path
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise ConfigError(f"{name}: no such file or folder")
    return None


def local_folder(name: str, key: str, *, weights: bool) -> Path:
    """The folder of `name`; a hub id is fetched into the hub's cache (only looked up there if HF_HUB_OFFLINE is set).

    Args:
        name: as in `find_local`, or a hub id.
        key: the recipe key that holds the name, for messages.
        weights: also fetch weights, else configuration and vocabulary only.

    Raises:
        ConfigError: neither here nor to be had.
    """
    found = find_local(name)
    if found is not None:
        if not found.is_dir():
            raise ConfigError(f"{key}: {found} is a file; name the folder that holds it and its config.json")
        return found
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, allow_patterns=CONFIG_FILES))
        if weights:
            for patterns in WEIGHT_FILES:  # most repositories hold the same weights in several formats: take one
                folder = Path(snapshot_download(name, allow_patterns=[*CONFIG_FILES, *patterns]))
                if any(file for pattern in patterns for file in folder.glob(pattern)):
                    break
            else:
                raise ConfigError(f"{key}: {name} holds neither safetensors nor PyTorch weights")
    except ConfigError:
        raise
    except Exception as error:  # offline, no such repository, no access: the hub has a dozen types for it
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"{key}: '{name}' is no folder here and the model hub does not give it ({reason}). Download it on a "
            f"machine with access (hf download {name} --local-dir FOLDER), then set {key}=FOLDER"
        ) from error
    return folder


def folder_config(folder: Path, key: str) -> dict[str, Any]:
    """The config.json of a model's folder.

    Args:
        key: the recipe key that names the folder, for messages.

    Raises:
        ConfigError: there is none, or it is no JSON object.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ConfigError(f"{key}: {folder} has no config.json")
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"{key}: {path} is not JSON ({error}); is the download complete?") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{key}: {path} is no JSON object")
    return config
