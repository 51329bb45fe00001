"""Settings of two-step retrieval: what the evaluation section says of it."""

from __future__ import annotations

from dataclasses import dataclass

from mmret.recipe.rules import at_least, check_fields, one_of


@dataclass
class RerankConfig:
    """The dual encoder's best documents of each query, read together with it by the itm head. A bare number is k."""

    k: int = 32
    """Documents of each query that are read."""
    score: str = "itm"
    """itm: log-odds of a match, as ALBEF and BLIP rank. itm_plus_cosine: the logit of "match" plus the dual encoder's
    score, as in VLMo's released code, which never calls it."""

    def __post_init__(self) -> None:
        check_fields(self, k=at_least(1), score=one_of("itm", "itm_plus_cosine"))
