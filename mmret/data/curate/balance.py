"""Balanced concepts: of what everybody writes about at most so many samples, of what is rare all (MetaCLIP).

Xu et al. 2023, "Demystifying CLIP Data", Sec. 3.3 and Algorithm 1: a concept that n texts match draws each of them with
probability min(1, t/n); a sample stays if any of its concepts draws it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from omegaconf import MISSING

from mmret.data.curate.filter import Filter, Setup, Verdict, no_reasons
from mmret.data.curate.view import View, check_side
from mmret.data.dice import Dice
from mmret.errors import ConfigError

SHOWN = 20
"""Concepts that the report names: those that most samples match."""


@dataclass
class BalanceConfig:
    """At most about `t` samples of each concept."""

    concepts: str = MISSING
    """Text file, one word or phrase a line, relative to the curation's file."""
    t: int = MISSING
    """Samples of a concept; the paper takes 20,000 of 400 million."""
    of: str = "positives"
    """Whose texts: both, query or positives."""
    unmatched: str = "drop"
    """What becomes of samples that match no concept: drop, as in the paper, or keep."""

    def __post_init__(self) -> None:
        check_side(self.of)
        if self.t < 1:
            raise ConfigError(f"t must be at least 1, got {self.t}")
        if self.unmatched not in ("drop", "keep"):
            raise ConfigError(f"unmatched: '{self.unmatched}' is none; known: drop, keep")


class Balance(Filter):
    """A concept matches where its words follow each other in a text, in any case; punctuation is space."""

    name, Config, unit = "balance", BalanceConfig, "probability to stay"
    kind = pa.list_(pa.int32())

    def __init__(self, config: BalanceConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        path = Path(config.concepts).expanduser()
        self.path = path if path.is_absolute() else setup.folder / path
        if not self.path.is_file():
            raise ConfigError(f"concepts: no such file {self.path} (relative to the curation's file)")
        # Of equal concepts the first; a line of signs alone matches nothing.
        lines = (tuple(_words(line)) for line in self.path.read_text(encoding="utf-8").splitlines())
        self.concepts = list(dict.fromkeys(line for line in lines if line))
        if not self.concepts:
            raise ConfigError(f"concepts: {self.path} has none; want one word or phrase a line")

    def identity(self) -> dict[str, Any]:
        """The words, wherever they lie."""
        return super().identity() | {"concepts": hashlib.sha256(repr(self.concepts).encode()).hexdigest()}

    @cached_property
    def _numbers(self) -> dict[tuple[str, ...], int]:
        return {words: number for number, words in enumerate(self.concepts)}

    @cached_property
    def _lengths(self) -> list[int]:
        return sorted({len(words) for words in self.concepts})

    def measure(self, view: View) -> list[int]:
        """Numbers of the concepts that any of the texts matches."""
        found: set[int] = set()
        for text in view.texts(self.config.of):
            words = _words(text)
            for length in self._lengths:
                spans = (tuple(words[at : at + length]) for at in range(len(words) - length + 1))
                found.update(self._numbers[span] for span in spans if span in self._numbers)
        return sorted(found)

    def judge(self, values: pa.Array, indices: np.ndarray) -> Verdict:
        """Counts are of the samples that reached this filter; draws are keyed by seed, sample and concept."""
        flat = values.values.to_numpy(zero_copy_only=False)
        counts = np.bincount(flat, minlength=len(self.concepts))
        chances = np.minimum(1.0, self.config.t / np.maximum(counts, 1))
        reasons, probabilities = no_reasons(len(values)), np.zeros(len(values))
        left = np.zeros(len(self.concepts), np.int64)
        unmatched = 0
        for row, (index, matched) in enumerate(zip(indices.tolist(), values.to_pylist())):
            if not matched:
                unmatched += 1
                if self.config.unmatched == "drop":
                    reasons[row] = "matches no concept"
                else:
                    probabilities[row] = 1
                continue
            probabilities[row] = 1 - float(np.prod(1 - chances[matched]))
            words = (" ".join(self.concepts[one]) for one in matched)
            drawn = any(
                chance >= 1 or Dice(self.setup.seed, "balance", index, word).between(0, 1) < chance
                for chance, word in zip(chances[matched].tolist(), words)
            )
            if drawn:
                left[matched] += 1
            else:
                reasons[row] = "its concepts are frequent"
        most = np.argsort(-counts, kind="stable")[:SHOWN]
        facts = {
            "concepts": len(self.concepts),
            "matched": int((counts > 0).sum()),
            "above t": int((counts > self.config.t).sum()),
            "samples without concept": unmatched,
            "expected to stay": round(float(probabilities.sum()), 3),
            "most frequent": {" ".join(self.concepts[n]): [int(counts[n]), int(left[n])] for n in most if counts[n]},
        }
        return Verdict(reasons, probabilities, facts=facts)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
