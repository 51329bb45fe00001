"""Texts of the right length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mmret.data.curate.filter import Filter, Verdict, extremes, no_reasons
from mmret.data.curate.view import View, check_side
from mmret.errors import ConfigError


@dataclass
class LengthConfig:
    """Words and characters of each text; words are what white space separates."""

    of: str = "both"
    """Whose texts: both, query or positives."""
    min_words: int | None = None
    max_words: int | None = None
    min_characters: int | None = None
    max_characters: int | None = None

    def __post_init__(self) -> None:
        check_side(self.of)
        limits = (self.min_words, self.max_words, self.min_characters, self.max_characters)
        if all(limit is None for limit in limits):
            raise ConfigError("want at least one of min_words, max_words, min_characters, max_characters")
        for what, low, high in (("words", *limits[:2]), ("characters", *limits[2:])):
            if low is not None and high is not None and low > high:
                raise ConfigError(f"min_{what} {low} is above max_{what} {high}")


class Length(Filter):
    """Every text of a sample has to be within the limits; a sample without texts stays."""

    name, Config, unit = "length", LengthConfig, "words of the shortest text"
    kind = pa.struct([("words", pa.list_(pa.int32())), ("characters", pa.list_(pa.int32()))])

    def measure(self, view: View) -> dict[str, list[int]]:
        """Words and characters of each text."""
        texts = view.texts(self.config.of)
        return {"words": [len(text.split()) for text in texts], "characters": [len(text) for text in texts]}

    def judge(self, values: pa.Array, indices: np.ndarray) -> Verdict:
        """The first limit that a text breaks is the reason."""
        reasons, config = no_reasons(len(values)), self.config
        fewest, most = extremes(values.field("words"))
        shortest, longest = extremes(values.field("characters"))
        for reason, broken in (
            ("too few words", config.min_words is not None and fewest < config.min_words),
            ("too many words", config.max_words is not None and most > config.max_words),
            ("too few characters", config.min_characters is not None and shortest < config.min_characters),
            ("too many characters", config.max_characters is not None and longest > config.max_characters),
        ):
            reasons[(reasons == "") & broken] = reason
        return Verdict(reasons, fewest)
