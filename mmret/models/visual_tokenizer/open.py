"""Which kind of visual tokenizer lies at a path, and opening it."""

from __future__ import annotations

from pathlib import Path

from mmret.errors import ConfigError
from mmret.models.backbones import find_local
from mmret.models.visual_tokenizer.codebook import codebook_facts, load_codebook
from mmret.models.visual_tokenizer.dalle import dalle_facts, load_dalle
from mmret.models.visual_tokenizer.mean_colour import MEAN_COLOUR, MeanColour
from mmret.models.visual_tokenizer.tokenizer import TokenizerFacts, VisualTokenizer

TINY = "tiny"
"""Names the tokenizer that needs no file."""


def find_visual_tokenizer(name: str | Path) -> Path | None:
    """The file or folder of a name: a path, or `package:PACKAGE/PATH`; none for `tiny`. Nothing is fetched from a hub.

    Raises:
        ConfigError: it is not here.
    """
    if name == TINY:
        return None
    found = find_local(str(name))
    if found is None:
        raise ConfigError(
            f"{name}: no such file or folder; a visual tokenizer is local: the folder that `mmret codebook` wrote, or "
            "the file of a DALL-E encoder's state dict (docs/vision_stage.md), or 'tiny'"
        )
    return found


def visual_tokenizer_facts(name: str | Path) -> TokenizerFacts:
    """Number of tokens and the pictures' patches, without building anything.

    Raises:
        ConfigError: it is not here.
        CheckpointError: what lies there is no visual tokenizer.
    """
    path = find_visual_tokenizer(name)
    if path is None:
        return MEAN_COLOUR
    return codebook_facts(path) if path.is_dir() else dalle_facts(path)


def load_visual_tokenizer(path: str | Path) -> VisualTokenizer:
    """Open a codebook's folder, a DALL-E encoder's file or `tiny`, frozen, on the CPU.

    Raises:
        ConfigError: it, or the tower that a codebook names, is not here.
        CheckpointError: what lies there is no visual tokenizer, or not a whole one.
    """
    found = find_visual_tokenizer(path)
    if found is None:
        return MeanColour().frozen()
    tokenizer: VisualTokenizer = load_codebook(found) if found.is_dir() else load_dalle(found)
    return tokenizer.frozen()
