"""Which column of a table is what."""

from __future__ import annotations

from dataclasses import dataclass, field

from mmret.data.sources.row_options import RowOptions
from mmret.errors import ConfigError


@dataclass
class TableConfig(RowOptions):
    """The options of `mmret data build table`."""

    image_column: str | None = None
    """Column of a picture that its captions answer: short for --query-images."""
    caption_columns: list[str] = field(default_factory=list)
    """Columns of captions, or of lists of them: short for --positive-texts."""
    query_text: str | None = None
    """Column of the text that asks, with the picture or alone."""
    query_images: list[str] = field(default_factory=list)
    """Columns of the pictures that ask, or of lists of them; a row has all of them."""
    query_instruction: str | None = None
    """Column of the instruction."""
    positive_texts: list[str] = field(default_factory=list)
    """Columns of the texts that answer, or of lists of them; each is a document."""
    positive_images: list[str] = field(default_factory=list)
    """Columns of the pictures that answer, or of lists; with texts beside: the first text's picture, the second's."""
    positive_ids: list[str] = field(default_factory=list)
    """Columns of the answers' ids, or of lists: equal ids are the same document."""
    negative_texts: list[str] = field(default_factory=list)
    """Columns of the texts that do not answer, or of lists of them."""
    negative_images: list[str] = field(default_factory=list)
    """Columns of the pictures that do not answer; with texts beside as for the positives."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_column is not None:
            if self.query_images:
                raise ConfigError("table: --image-column and --query-images are the same; give one of them")
            self.query_images = [self.image_column]
        if self.caption_columns:
            if self.positive_texts:
                raise ConfigError("table: --caption-columns and --positive-texts are the same; give one of them")
            self.positive_texts = self.caption_columns
        if self.positive_ids and not (self.positive_texts or self.positive_images):
            raise ConfigError("table: --positive-ids name documents; give their --positive-texts or --positive-images")

    @property
    def used(self) -> list[str]:
        """All columns that are part of a sample."""
        single = [name for name in (self.query_text, self.query_instruction) if name is not None]
        sides = (self.positive_texts, self.positive_images, self.positive_ids, self.negative_texts)
        return [*single, *self.query_images, *(name for names in sides for name in names), *self.negative_images]
