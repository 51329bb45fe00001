"""The data section of a stage: sources and their weights, batch sizes, what happens to texts and pictures."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from mmret.recipe.rules import FRACTION, OF_TEN, PROPER_FRACTION, RANGE, ROLES, SHARE, at_least, check_fields, one_of


@dataclass
class SourceConfig:
    """One source of a mixture. In YAML a bare number is its weight."""

    weight: float = 1.0
    """Share of the batches, relative to the other sources; 0 leaves the source out."""
    max_samples: int | None = None
    """Use only the first so many samples of the source (in its own order, before any shuffle)."""
    synthetic: float = 0.0
    """Share of rows whose caption is one that a model wrote (`mmret data recaption`), not the picture's own."""

    def __post_init__(self) -> None:
        check_fields(self, weight=at_least(0), max_samples=at_least(1), synthetic=FRACTION)


@dataclass
class MaskingConfig:
    """BERT's masked tokens (Devlin et al. 2019, Sec. 3.1), whole words at a time; of stages with an `mlm` objective."""

    rule: str = "whole_word"
    """whole_word: the share is of a text's own tokens, at least a word of each text. vlmo: as in VLMo's released code,
    the share is of the padded length and padding competes, so short texts often get none."""
    fraction: float = 0.15
    """Share of tokens to guess."""

    def __post_init__(self) -> None:
        check_fields(self, rule=one_of("whole_word", "vlmo"), fraction=FRACTION)


@dataclass
class ImageMaskingConfig:
    """BEiT's blocks of hidden patches (Bao et al. 2021, Alg. 1); of stages with a `mim` objective."""

    fraction: float = 0.4
    """Largest share of patches to hide. BEiT's paper says 0.4, its code 75 of 196 patches."""
    min_patches: int = 16
    """Smallest block; the whole share where that is less."""
    min_aspect: float = 0.3
    """Flattest block, height over width; the tallest is its inverse."""
    exact: bool = False
    """Hide single patches for what blocks leave open of the share, so that every row has as many (as BEiT v2)."""

    def __post_init__(self) -> None:
        check_fields(self, fraction=SHARE, min_patches=at_least(1), min_aspect=SHARE)


@dataclass
class AugmentConfig:
    """Random views of training pictures (VLMo's: crop, flip, RandAugment), by each sample's place in the data."""

    crop_scale: tuple[float, float] = (0.5, 1.0)
    """Share of the area that a random crop keeps, from and to; [1, 1]: the whole picture, its shape unchanged."""
    flip: bool = True
    """Mirror half of the pictures. Off where texts speak of left and right (VQA, NLVR2)."""
    ops: int = 2
    """RandAugment operations tried on a picture, each then applied to half of them; 0: none."""
    magnitude: float = 7.0
    """Their strength, of 10."""
    roles: list[str] = field(default_factory=lambda: ["query", "document"])
    """Whose pictures."""

    def __post_init__(self) -> None:
        check_fields(self, crop_scale=RANGE, ops=at_least(0), magnitude=OF_TEN, roles=ROLES)


@dataclass
class MixtureConfig:
    """The data of one stage."""

    sources: dict[str, SourceConfig] = MISSING
    """Data spec name (or path of a spec YAML) -> weight."""
    batch_size: int = MISSING
    """Queries per optimizer step over all ranks and accumulation steps."""
    documents_per_query: int = 1
    """1 positive + the rest negatives."""
    fill_negatives: bool = True
    """Where a row has fewer negatives of its own, draw the rest from its documents table. Off: it has as many as it
    has, up to documents_per_query - 1."""
    block_size: int | None = None
    """Neighbouring queries drawn from one source; null: the whole batch. Must divide batch_size."""
    shuffle_window: int = 4096
    """Samples shuffled together, in order of (shuffled) shards; 0 keeps the stored order."""
    num_workers: int = 0
    """Loader processes per rank; 0 loads in the training process. The batches do not depend on it."""
    max_bad_fraction: float = 0.001
    """Stop when more than this share of the samples read was broken and had to be replaced."""
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    image_masking: ImageMaskingConfig = field(default_factory=ImageMaskingConfig)
    augment: AugmentConfig | None = None
    """null: pictures as they are."""
    drop_patches: float = 0.0
    """Share of each training picture's patches that the vision tower never reads, other ones each time (FLIP, Li et al.
    2023: 0.5 or 0.75)."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            batch_size=at_least(1),
            documents_per_query=at_least(1),
            block_size=at_least(1),
            shuffle_window=at_least(0),
            num_workers=at_least(0),
            max_bad_fraction=FRACTION,
            drop_patches=PROPER_FRACTION,
        )
