"""A YAML file read as the dataclass that says what it may hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from mmret.errors import ConfigError

T = TypeVar("T")
WRONG = (OmegaConfBaseException, YAMLError, TypeError, ValueError)
"""What reading such a file raises where it does not fit."""


def read_typed(cls: type[T], path: Path, kind: str) -> T:
    """The file at `path`; the dataclass's field `file`, which no file may set, gets where it was read from.

    Args:
        kind: for messages: "a data spec".

    Raises:
        ConfigError: it is no YAML, has an unknown field, lacks one, or one of another type.
    """
    tree: Any = {}
    try:
        tree = OmegaConf.load(path)
        if "file" in tree:
            raise ConfigError("unknown field 'file'")
        read = cast(Any, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), tree)))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except WRONG as error:
        known = ", ".join(name for name in cast(Any, cls).__dataclass_fields__ if name != "file")
        raise ConfigError(f"{path}: {_where(cls, tree)}{said(error)}\n  fields of {kind}: {known}") from error
    read.file = str(path)
    return read


def _where(cls: type, tree: Any) -> str:
    """The field that does not fit, where OmegaConf does not name it: a list or a mapping, or an entry of one."""
    for name in tree if isinstance(tree, DictConfig) else ():
        try:
            OmegaConf.merge(OmegaConf.structured(cls), {name: tree[name]})
        except WRONG as error:
            named = isinstance(error, OmegaConfBaseException) and str(error.full_key or "").startswith(str(name))
            return "" if named else f"{name}: "
    return ""


def said(error: Exception) -> str:
    """What is wrong, and of which field, without OmegaConf's lines of detail."""
    key = f"{error.full_key}: " if isinstance(error, OmegaConfBaseException) and error.full_key else ""
    return key + str(error).strip().split("\n    full_key")[0]
