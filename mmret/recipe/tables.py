"""The tables that `name:` sections are looked up in; imported on first use, as they bring torch along."""

from __future__ import annotations

from typing import Any


def models() -> dict[str, Any]:
    """`mmret.models.MODELS`: classes with a `Config` dataclass."""
    from mmret.models import MODELS

    return dict(MODELS)


def objectives() -> dict[str, Any]:
    """`mmret.objectives.OBJECTIVES`: classes with a `Config` dataclass and `needs`."""
    from mmret.objectives import OBJECTIVES

    return dict(OBJECTIVES)
