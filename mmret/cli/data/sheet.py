"""Pages about a collection: a contact sheet of samples, and its statistics with plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from mmret.data.care import Collection, Looked, Statistics
from mmret.data.care.statistics import quantiles
from mmret.errors import ConfigError, SampleError
from mmret.evaluation.gallery import data_uri
from mmret.evaluation.page import write_page
from mmret.evaluation.plots import histogram
from mmret.types import Content

EXCERPT = 600
"""Characters of a text that are shown."""


@dataclass(frozen=True)
class Card:
    """A content of a sample."""

    side: str
    id: str
    text: str
    instruction: str
    pictures: tuple[tuple[str, str], ...]
    """(data: URI, size); a picture that does not decode has no URI, but the reason."""


def write_sheet(path: str | Path, collection: Collection, samples: Sequence[Looked]) -> Path:
    """A card for each sample: query, positives, some negatives, and what else its row says."""
    shown = [
        {
            "sample": sample,
            "query": _card("query", sample.query) if sample.query else None,
            "documents": [_card("positive", one) for one in sample.positives]
            + [_card("negative", one) for one in sample.negatives],
            "more": sample.num_negatives - len(sample.negatives),
        }
        for sample in samples
    ]
    return _write(path, "sheet.html.j2", spec=collection.spec, manifest=collection.manifest, samples=shown)


def write_statistics(path: str | Path, found: Statistics) -> Path:
    """Counts, distributions with a plot each, repeats."""
    sides = {
        name: [
            (label, quantiles(values), _plot(f"{name}: {label}", label, values))
            for label, values in side.distributions().items()
        ]
        for name, side in found.sides.items()
        if side.num
    }
    return _write(path, "stats.html.j2", found=found, sides=sides)


def _plot(name: str, label: str, values: Mapping[float, int]) -> Markup:
    """Nothing where all values are the same."""
    return histogram(values, name=name, x_label=label) if len(values) > 1 else Markup("")


def _write(path: str | Path, template: str, **values: object) -> Path:
    path = Path(path)
    if not path.parent.is_dir():
        raise ConfigError(f"--html {path}: there is no folder {path.parent}")
    filters = {"thousands": lambda number: f"{number:,}", "size": lambda number: f"{number / 1e6:,.1f} MB"}
    return write_page(path, Path(__file__).with_name(template), filters, **values)


def _card(side: str, content: Content) -> Card:
    pictures: list[tuple[str, str]] = []
    for image in content.pictures:
        try:
            picture = image.decode()
            pictures.append((data_uri(image.data), f"{picture.width} x {picture.height}"))
        except SampleError as error:
            pictures.append(("", str(error)))
    text = content.text or ""
    text = text if len(text) <= EXCERPT else text[:EXCERPT] + " …"
    return Card(side, content.id or "", text, content.instruction or "", tuple(pictures))
