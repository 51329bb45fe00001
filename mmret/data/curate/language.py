"""Texts of the right language: py3langid, whose model lies inside its package (langid.py, Lui and Baldwin 2012)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from mmret.data.curate.filter import Filter, Setup, Verdict, no_reasons, package
from mmret.data.curate.view import View, check_side
from mmret.errors import ConfigError


@dataclass
class LanguageConfig:
    """Language of each text."""

    of: str = "both"
    """Whose texts: both, query or positives."""
    keep: list[str] = field(default_factory=list)
    """Codes of two letters: en, de, ..."""
    among: list[str] = field(default_factory=list)
    """Languages that the texts can be of; fewer make short texts surer. Empty: all that py3langid knows."""
    min_probability: float = 0.0
    """Of the likeliest language, 0 to 1; short texts are rarely sure."""

    def __post_init__(self) -> None:
        check_side(self.of)
        if not self.keep:
            raise ConfigError("keep: want at least one language, such as [en]")
        if self.among and not set(self.keep) <= set(self.among):
            raise ConfigError(f"keep: {self.keep} are not all in among: {self.among}")


class Language(Filter):
    """Every text of a sample has to be of one of the languages; a sample without texts stays."""

    name, Config, unit = "language", LanguageConfig, "probability of the likeliest language, least sure text"
    kind = pa.struct([("language", pa.list_(pa.string())), ("probability", pa.list_(pa.float32()))])
    measured_by = ("of", "among")

    def __init__(self, config: LanguageConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        known = _identifier([]).labels
        for code in (*config.keep, *config.among):
            if code not in known:
                raise ConfigError(f"keep and among: unknown language '{code}'; known: {', '.join(sorted(known))}")
        self._model: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_model": None}

    def measure(self, view: View) -> dict[str, list[Any]]:
        """Likeliest language of each text and its probability."""
        if self._model is None:
            self._model = _identifier(list(self.config.among))
        found = [self._model.classify(text) for text in view.texts(self.config.of)]
        return {"language": [code for code, _ in found], "probability": [float(sure) for _, sure in found]}

    def judge(self, values: pa.Array, indices: np.ndarray) -> Verdict:
        """The first text of another language, or that is not sure enough, is the reason."""
        reasons, sure = no_reasons(len(values)), np.full(len(values), np.nan)
        wanted = set(self.config.keep)
        for row, found in enumerate(values.to_pylist()):
            for code, probability in zip(found["language"], found["probability"]):
                sure[row] = np.fmin(sure[row], probability)
                if not reasons[row] and code not in wanted:
                    reasons[row] = f"language {code}"
                elif not reasons[row] and probability < self.config.min_probability:
                    reasons[row] = "language not sure"
        return Verdict(reasons, sure)


def _identifier(among: list[str]) -> Any:
    langid = package("py3langid.langid", "py3langid", "language")
    model = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
    if among:
        model.set_languages(among)
    return model
