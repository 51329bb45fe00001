"""The recipe's model section for PreFLMR; also what a checkpoint's config.json holds."""

from __future__ import annotations

from dataclasses import dataclass, field

from mmret.errors import ConfigError


@dataclass
class PreFLMRConfig:
    """PreFLMR (Lin et al. 2024). The defaults are the released ViT-B model's values (its config.json)."""

    name: str = "preflmr"

    text: str = "bert-base-uncased"
    """Hub id, folder, `package:PACKAGE/FOLDER`, or `tiny`. A ColBERT checkpoint brings its projection along."""
    tokenizer: str | None = None
    """Where the vocabulary lies, if not beside the text encoder."""
    separate_text_encoders: bool = True
    """Queries have an encoder of their own (PreFLMR); off: one for both sides (FLMR, and PreFLMR's early stages)."""

    vision: str | None = "openai/clip-vit-base-patch32"
    """Hub id or folder (CLIP, SigLIP), `open_clip:NAME/PRETRAINED`, `timm:NAME`, `tiny`; null: a text-only model."""
    vision_weights: str | None = None
    """Weight file for the tower (`package:PACKAGE/FILE` or a path); null: the tower's own source."""
    image_px: int | None = None
    """Width and height of a picture; null: the tower's."""
    image_mean: list[float] | None = None
    """Per channel, of values in [0, 1]; null: the tower's."""
    image_std: list[float] | None = None
    image_fit: str | None = None
    """crop: centre square; squash: the whole picture, its shape changed; null: the tower's (CLIP: crop)."""
    image_decode: str = "full"
    """full: every pixel; scaled: of large JPEGs 1/2, 1/4 or 1/8 of each side, at least twice image_px: faster."""
    missing_image: str = "black"
    """What a query without a picture gets. black: a black picture, as the released models were trained and measured;
    skip: nothing (its image places are zero vectors, and a batch wholly without pictures never runs the tower)."""

    dim: int = 128
    """Size of a token's vector."""
    prefix_tokens: int = 32
    """Tokens made from the picture's global feature."""
    use_mapping: bool = True
    """Queries also get one token per patch through the mapping network; off: FLMR, which takes several pictures."""
    mapping_layers: int = 1
    mapping_heads: int | None = None
    """null: one per 64 of the text encoder's width (12 for BERT-base)."""
    mapping_ffn: int | None = None
    """null: 4 x the text encoder's width (3072 for BERT-base)."""
    mapping_dropout: float = 0.1
    mapping_attention_dropout: float = 0.1
    mapping_activation: str = "gelu"
    mapping_norm_eps: float = 1e-12
    cross_attention_tokens: int = 32
    """The mapping network reads the query text's first so many places."""
    cross_attention_sees: str = "all"
    """all: also instruction, padding and [MASK] places (release); kept: places that count (stage-1 training code)."""

    query_tokens: int = 32
    """Places of a query's text, instruction and special tokens included; always filled up to it."""
    document_tokens: int = 512
    """Longest document text; batches are padded to their own longest."""
    query_marker: str | None = "[unused0]"
    """Token after [CLS] that says "query"; null: none (text encoders outside BERT's family)."""
    document_marker: str | None = "[unused1]"
    fill_query: bool = True
    """Fill a query's free places with [MASK], whose outputs count (ColBERT's query augmentation)."""
    use_instructions: bool = True
    """Off: queries are read without their instruction (an ablation), also where nothing but a picture is left then."""
    instruction_separator: str | None = ":"
    """Text up to the first such token does not count in the score; null: all text counts."""
    query_skip_ids: list[int] = field(default_factory=list)
    """Token ids that do not count in queries, nor are read by the mapping network."""
    mask_punctuation: bool = True
    """Punctuation does not count in documents."""

    query_text_in_score: bool = True
    """Off: the query's text reaches the score through the mapping network only (stage 1)."""
    query_vision: bool = True
    """Queries use their pictures. Off: text only, with the vision modules kept (text warm-up)."""
    document_text_in_score: bool = True
    document_vision: bool = False
    """Documents with pictures get prefix tokens, before their text; several pictures are allowed."""

    def __post_init__(self) -> None:
        problems = [
            f"model.{key} must be at least {least}, got {getattr(self, key)}"
            for key, least in (
                ("dim", 1),
                ("prefix_tokens", 1),
                ("mapping_layers", 1),
                ("cross_attention_tokens", 1),
                ("query_tokens", 4),
                ("document_tokens", 4),
            )
            if getattr(self, key) < least
        ]
        for key, allowed in (
            ("image_fit", (None, "crop", "squash")),
            ("image_decode", ("full", "scaled")),
            ("missing_image", ("black", "skip")),
            ("cross_attention_sees", ("all", "kept")),
        ):
            if getattr(self, key) not in allowed:
                problems.append(
                    f"model.{key} must be one of {', '.join(filter(None, allowed))}, got '{getattr(self, key)}'"
                )
        for key in ("image_mean", "image_std"):
            if (value := getattr(self, key)) is not None and len(value) != 3:
                problems.append(f"model.{key} wants three numbers (red, green, blue), got {value}")
        if self.vision is not None and self.dim * self.prefix_tokens % 2:
            problems.append(f"model.dim x model.prefix_tokens must be even, got {self.dim} x {self.prefix_tokens}")
        if not self.query_text_in_score and (self.vision is None or not self.query_vision):
            problems.append("model.query_text_in_score: false leaves nothing of a query without query_vision")
        if not self.document_text_in_score and (self.vision is None or not self.document_vision):
            problems.append("model.document_text_in_score: false leaves nothing of a document without document_vision")
        if problems:
            raise ConfigError("\n".join(problems))

    @property
    def maps_patches(self) -> bool:
        """Does the model have a mapping network?"""
        return self.vision is not None and self.use_mapping

    def sees(self, role: str) -> bool:
        """Are the pictures of this side used?"""
        return self.vision is not None and (self.query_vision if role == "query" else self.document_vision)
