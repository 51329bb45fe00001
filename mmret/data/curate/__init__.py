"""Choosing what to train on: filters over the samples of shards, new manifests over the same tars, and reports."""

from mmret.data.curate.balance import Balance
from mmret.data.curate.complexity import Complexity
from mmret.data.curate.curation import Curated, Step, curate
from mmret.data.curate.duplicate_images import DuplicateImages
from mmret.data.curate.duplicate_texts import DuplicateTexts
from mmret.data.curate.filter import Filter, Setup, Verdict
from mmret.data.curate.image_size import ImageSize
from mmret.data.curate.language import Language
from mmret.data.curate.length import Length
from mmret.data.curate.recipe import Curation
from mmret.data.curate.text_spotting import TextSpotting
from mmret.data.curate.view import View

FILTERS: dict[str, type[Filter]] = {
    entry.name: entry
    for entry in (Length, Complexity, Language, ImageSize, TextSpotting, DuplicateImages, DuplicateTexts, Balance)
}
"""Name in a curation -> filter; those that need a model are `mmret.evaluation.curate.FILTERS`."""

__all__ = ["FILTERS", "Curated", "Curation", "Filter", "Setup", "Step", "Verdict", "View", "curate"]
