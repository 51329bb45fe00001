"""The page of a curation: for each filter what went and why, its measure's spread, samples that stayed and went."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mmret.cli.data.sheet import EXCERPT
from mmret.data.curate import Curated
from mmret.data.curate.view import view_sample
from mmret.errors import SampleError
from mmret.evaluation.gallery import data_uri
from mmret.evaluation.page import write_page
from mmret.evaluation.plots import histogram

PICTURES = 2
"""Pictures of a sample that are shown."""


def write_curation(found: Curated) -> Path:
    """Write `report.html` beside the new manifest."""
    steps = [
        {
            "step": step,
            "config": {name: value for name, value in step.config.items() if value not in (None, "", [])},
            "plot": _plot(f"{number} {step.name}", step.unit, step.values),
            "kept": [_card(found, index, value) for index, value in step.kept],
            "dropped": [_card(found, index, value, reason) for index, value, reason in step.dropped],
        }
        for number, step in enumerate(found.steps, 1)
    ]
    filters = {"thousands": lambda number: f"{number:,}"}
    path = Path(found.curation.out) / "report.html"
    return write_page(path, Path(__file__).with_name("curation.html.j2"), filters, found=found, steps=steps)


def _plot(name: str, label: str, values: Any) -> Markup:
    """Nothing where all values are the same."""
    return histogram(values, name=name, x_label=label) if len(values) > 1 else Markup("")


def _card(found: Curated, index: int, value: float, reason: str = "") -> dict[str, Any]:
    card: dict[str, Any] = {"value": "" if math.isnan(value) else f"{value:.4g}", "reason": reason}
    try:
        view = view_sample(found.source, index)
    except SampleError as error:
        return {**card, "name": f"sample {index}", "texts": [str(error)], "pictures": []}
    pictures = []
    for image in view.pictures("both")[:PICTURES]:
        try:
            image.decode()
            pictures.append(data_uri(image.data))
        except SampleError as error:
            card["reason"] = reason or str(error)
    texts = [text if len(text) <= EXCERPT else text[:EXCERPT] + " …" for text in view.texts("both")[:3]]
    return {**card, "name": view.name, "texts": texts, "pictures": pictures}
