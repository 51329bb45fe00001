"""Captions that say more than a name: relations and actions, counted by English word lists.

After the complexity and action rules of CAT (Radenovic et al. 2023, Sec. 3.1), which parse each caption; here words are
looked up instead: prepositions and words for places, and verbs that a picture can show.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mmret.data.curate.filter import Filter, Verdict, extremes, no_reasons
from mmret.data.curate.view import View, check_side
from mmret.data.english import PREPOSITIONS, is_action
from mmret.errors import ConfigError


@dataclass
class ComplexityConfig:
    """Relation words (prepositions, places) and action words (verbs, -ing) of each text. English only."""

    of: str = "positives"
    """Whose texts: both, query or positives."""
    min_relations: int = 0
    min_actions: int = 0

    def __post_init__(self) -> None:
        check_side(self.of)
        if self.min_relations < 1 and self.min_actions < 1:
            raise ConfigError("want min_relations or min_actions of at least 1")


class Complexity(Filter):
    """Every text of a sample has to have as many; a sample without texts stays."""

    name, Config, unit = "complexity", ComplexityConfig, "relations and actions of the plainest text"
    kind = pa.struct([("relations", pa.list_(pa.int32())), ("actions", pa.list_(pa.int32()))])

    def measure(self, view: View) -> dict[str, list[int]]:
        """Relation words and action words of each text."""
        words = [re.findall(r"[a-z']+", text.lower()) for text in view.texts(self.config.of)]
        return {
            "relations": [sum(word in PREPOSITIONS for word in text) for text in words],
            "actions": [sum(map(is_action, text)) for text in words],
        }

    def judge(self, values: pa.Array, indices: np.ndarray) -> Verdict:
        """Too few relations, then too few actions."""
        reasons = no_reasons(len(values))
        relations, _ = extremes(values.field("relations"))
        actions, _ = extremes(values.field("actions"))
        reasons[actions < self.config.min_actions] = "too few actions"
        reasons[relations < self.config.min_relations] = "too few relations"
        return Verdict(reasons, relations + actions)
