"""What to make of interleaved documents."""

from __future__ import annotations

from dataclasses import dataclass

from mmret.data.sources.row_options import RowOptions, check_counts
from mmret.errors import ConfigError

PAIRS = ("consecutive", "none")


@dataclass
class InterleavedConfig(RowOptions):
    """The options of `mmret data build interleaved`."""

    images_column: str = "images"
    """Column of the documents' lists of pictures."""
    texts_column: str = "texts"
    """Column of the lists of texts, as long: of each place of both exactly one is set."""
    pairs: str = "consecutive"
    """consecutive: a text and the pictures below it ask, the text that follows answers. none: a sample is a whole
    document that nothing answers."""
    query_column: str | None = None
    """Column of a text, such as the title, that asks; the whole document answers."""
    max_images: int | None = None
    """Most pictures of a query or a document; those that come after are left out."""
    max_words: int | None = None
    """Most words of a text: of the text that asks above its pictures the last, of others the first."""
    no_placeholders: bool = False
    """Texts do not say where their pictures stand; for models other than VLM2Vec."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pairs not in PAIRS:
            raise ConfigError(f"interleaved: pairs must be one of {', '.join(PAIRS)}, got '{self.pairs}'")
        check_counts(self, "max_images", "max_words")
