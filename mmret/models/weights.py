"""Weight files to tensors by name, and tensors into a module: strict, offline, no code from the file is run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mmret.errors import CheckpointError

FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""What a checkpoint folder may hold, in order of preference."""


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a weight file, or of a folder with one of `FILES` (an index names the files of a split checkpoint).

    Raises:
        CheckpointError: no weights there, a file of the index is missing, or a file cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        found = next((path / name for name in FILES if (path / name).is_file()), None)
        if found is None:
            raise CheckpointError(f"{path} holds no weights; expected one of {', '.join(FILES)}")
        path = found
    if not path.is_file():
        raise CheckpointError(f"weight file {path} does not exist")
    if path.name.endswith(".index.json"):
        state: dict[str, Tensor] = {}
        for name in sorted(set(json.loads(path.read_text())["weight_map"].values())):
            if not (path.parent / name).is_file():
                raise CheckpointError(f"{path} names {name}, which is not there; the download is incomplete")
            state.update(_read_file(path.parent / name))
        return state
    return _read_file(path)


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as weights: {error}; is the file complete?") from error
    except Exception as error:  # the unpickler's own error type moved between torch versions
        raise CheckpointError(
            f"{path} holds more than plain tensors, which is never executed here: {error}; save it as safetensors"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} is no table of tensors by name")
    return state


def check_keys(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], where: str) -> None:
    """Refuse a state that is not exactly what is expected.

    Raises:
        CheckpointError: lists every missing and unknown key and every wrong shape.
    """
    problems = [f"missing: {key} {tuple(value.shape)}" for key, value in expected.items() if key not in state]
    problems += [f"unknown: {key} {tuple(value.shape)}" for key, value in state.items() if key not in expected]
    problems += [
        f"wrong shape: {key} is {tuple(state[key].shape)}, expected {tuple(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    if problems:
        raise CheckpointError(
            f"{where} does not fit its configuration ({len(problems)} problems):\n  " + "\n  ".join(problems)
        )


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load every tensor of `state` into `module`; both must have the same names and shapes (`check_keys`)."""
    check_keys(module.state_dict(), state, where)
    module.load_state_dict(dict(state))
