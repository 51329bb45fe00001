"""Pictures that are not mostly writing: a hook for any text spotter (after T-MARS, Maini et al. 2023, and CAT)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from omegaconf import MISSING

from mmret.data.curate.filter import Filter, Setup, Verdict, extremes, no_reasons
from mmret.data.curate.view import View, check_side
from mmret.errors import ConfigError


@dataclass
class TextSpottingConfig:
    """What a function of yours finds written in each picture."""

    function: str = MISSING
    """`package.module:name` of what takes a PIL picture (RGB) and gives the share of its area that is text (0 to 1),
    or the text itself: then the share of the sample's words that the picture spells is judged."""
    max_share: float = MISSING
    of: str = "both"
    """Whose pictures, and whose words: both, query or positives."""

    def __post_init__(self) -> None:
        check_side(self.of)
        if not 0 <= self.max_share <= 1:
            raise ConfigError(f"max_share is 0 to 1, got {self.max_share}")


class TextSpotting(Filter):
    """Every picture of a sample has to show little enough; a sample without pictures stays."""

    name, Config, unit = "text_spotting", TextSpottingConfig, "share of text, the picture with most"
    kind = pa.list_(pa.float64())
    measured_by = ("of", "function")

    def __init__(self, config: TextSpottingConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self._file = _find(config.function)[1]

    def identity(self) -> dict[str, Any]:
        """With a digest of the function's file: another version measures anew."""
        return super().identity() | {"file": self._file}

    def measure(self, view: View) -> list[float]:
        """The share of each picture."""
        function, _ = _find(self.config.function)
        shares = []
        for image in view.pictures(self.config.of):
            found = function(image.decode())
            if isinstance(found, str):
                spelt, words = _words(found), _words(" ".join(view.texts(self.config.of)))
                found = len(words & spelt) / max(len(words), 1)
            if not 0 <= found <= 1:
                raise ConfigError(f"text_spotting: {self.config.function} gave {found}; want 0 to 1, or text")
            shares.append(float(found))
        return shares

    def judge(self, values: pa.Array, indices: np.ndarray) -> Verdict:
        """The picture with most text decides."""
        reasons, (_, share) = no_reasons(len(values)), extremes(values)
        reasons[share > self.config.max_share] = "too much text in the picture"
        return Verdict(reasons, share)


def _find(path: str) -> tuple[Callable[[Any], Any], str]:
    """The function, and a digest of the file it is in."""
    module, _, name = path.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"function: no '{path}' ({error}); want package.module:name, importable from here") from error
    file = getattr(import_module(module), "__file__", None)
    return found, hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16] if file else ""


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
