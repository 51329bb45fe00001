"""Vision-language models through transformers: which one a name means, how to build it, its weights by our names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmret.errors import CheckpointError, ConfigError
from mmret.models.backbones.composed import ComposedModel
from mmret.models.backbones.source import find_local, folder_config, local_folder
from mmret.models.backbones.tokenizer import TINY_VOCABULARY, TextTokenizer
from mmret.models.backbones.vlm_composed import COMPOSED, ComposedConfig, composed_parts, load_parts
from mmret.models.backbones.vlm_family import Family
from mmret.models.backbones.vlm_sizes import SIZES
from mmret.models.backbones.vlm_table import FAMILIES, TINY_FAMILY
from mmret.models.weights import check_keys, read_weights

TINY = "tiny"
"""A random two-layer Qwen2-VL for tests; `tiny:MODEL_TYPE` is another family's."""
NOT_READ = ("lm_head.weight", "rotary_emb.inv_freq", "embeddings.position_ids")
"""Ends of names of tensors in published files that no embedding depends on."""
MOVED = (
    ("", ""),
    ("vision_model.", ""),
    ("vision_tower.", "vision_tower.vision_model."),
    ("img_processor.", "img_processor.vision_model."),
    ("vision_embed_tokens.wte.", "embed_tokens."),  # Phi-3.5-V holds its token table under two names
)
"""Parts of published names -> what stands there today."""


@dataclass(frozen=True)
class VLMSpec:
    """Which model, and how it wants its pictures: all that is needed to build it without a download."""

    config: dict[str, Any]
    """The transformers configuration, `model_type` included."""
    pictures: dict[str, Any] = field(default_factory=dict)
    """Settings of its image processor (preprocessor_config.json)."""

    def __post_init__(self) -> None:
        kind = self.config.get("model_type")
        if kind not in FAMILIES:
            raise ConfigError(f"model.backbone: a '{kind}' model; known vision-language models: {', '.join(FAMILIES)}")

    @property
    def model_type(self) -> str:
        """The family's name in transformers."""
        return self.config["model_type"]

    def family(self, **limits: Any) -> Family:
        """What is particular to this model's family; `limits` as in `Family`."""
        return FAMILIES[self.model_type](self.config, self.pictures, **limits)


def vlm_spec(name: str, composed: ComposedConfig | None = None, *, download: bool = True) -> VLMSpec:
    """The spec of a hub id, a folder, `package:PACKAGE/FOLDER`, `tiny`, or `composed` of the given parts.

    Args:
        download: false: of what is not here its sizes alone, where they are known (`SIZES`).

    Raises:
        ConfigError: not here and not to be had, or a family that we do not know.
    """
    if name == TINY or name.startswith(f"{TINY}:"):
        kind = name.partition(":")[2] or TINY_FAMILY
        if kind not in FAMILIES:
            raise ConfigError(f"model.backbone: no tiny '{kind}'; known: {', '.join(FAMILIES)}")
        family = FAMILIES[kind]
        tokenizer = tiny_tokenizer(kind)
        ids = {token: tokenizer.id_of(token) for token in family.SPECIAL}
        config = family.tiny_config(len(tokenizer), ids)
        return _completed(VLMSpec({"model_type": kind, **config}, family.tiny_pictures()))
    if name == COMPOSED:
        assert composed is not None
        return VLMSpec(*composed_parts(composed, download=download))
    folder = find_local(name)
    if folder is None:
        if not download and name in SIZES:
            return _completed(VLMSpec(SIZES[name]))
        if not download:
            raise ConfigError(f"model.backbone: the sizes of '{name}' are not known without its config.json")
        folder = local_folder(name, "model.backbone", weights=False)
    return read_spec(folder)


def read_spec(folder: Path) -> VLMSpec:
    """The spec in a published folder.

    Raises:
        ConfigError: it has no config.json that can be read, or is of a family that we do not know.
    """
    return _completed(VLMSpec(folder_config(folder, "model.backbone"), read_pictures(folder) or {}))


def read_pictures(folder: Path) -> dict[str, Any] | None:
    """Settings of a published folder's image processor; None if it has none."""
    path, within = folder / "preprocessor_config.json", folder / "processor_config.json"
    if path.is_file():
        return json.loads(path.read_text())
    # Newer versions of transformers keep the settings of all a processor's parts in one file.
    return json.loads(within.read_text()).get("image_processor") if within.is_file() else None


def tiny_tokenizer(kind: str) -> TextTokenizer:
    """The built-in vocabulary and a family's special tokens."""
    special, begin = FAMILIES[kind].SPECIAL, FAMILIES[kind].BEGIN
    tokenizer = TextTokenizer.wordpiece(
        TINY_VOCABULARY, added={token: len(TINY_VOCABULARY) + i for i, token in enumerate(special)}
    )
    if begin is not None:
        tokenizer.begin_with(begin)
    return tokenizer


def build_vlm(spec: VLMSpec, dtype: torch.dtype, attention: str) -> nn.Module:
    """The model without a language-model head, random weights, caches off."""
    return FAMILIES[spec.model_type].build(spec.config, dtype, attention)


def _completed(spec: VLMSpec) -> VLMSpec:
    """With every default filled in."""
    return replace(spec, config=FAMILIES[spec.model_type].completed(spec.config))


def load_vlm(model: nn.Module, name: str, composed: ComposedConfig | None = None) -> None:
    """Put a published checkpoint's weights into a built model, in place; `tiny` keeps its random ones.

    Raises:
        CheckpointError: a weight is missing, unknown, or of another shape.
    """
    if name == COMPOSED:
        assert composed is not None and isinstance(model, ComposedModel)
        load_parts(model, composed)
    elif name != TINY and not name.startswith(f"{TINY}:"):
        folder = local_folder(name, "model.backbone", weights=True)
        load_published(model, read_weights(folder), str(folder))


def load_published(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Put weights under published names, old or new, into a built model.

    Raises:
        CheckpointError: a weight is missing, unknown, or of another shape.
    """
    own = model.state_dict()
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        if key not in own and key.endswith(NOT_READ):
            continue
        name = own_name(key, own)
        if name in renamed and not torch.equal(renamed[name], value):
            raise CheckpointError(f"{where}: {key} and another tensor are both {name} in the model, but they differ")
        renamed[name] = value
    check_keys(own, renamed, where)
    model.load_state_dict(renamed)


def own_name(key: str, own: Mapping[str, Any]) -> str:
    """A published tensor's name in the built model; the name itself where it has none there.

    Published checkpoints were written by several versions of transformers, which moved modules around; a name is taken
    only if the model has it.
    """
    bare = key.removeprefix("model.")
    for name in (key, bare, f"language_model.{bare}"):
        for shorter in (name, name.replace("language_model.model.", "language_model.", 1)):
            for old, new in MOVED:
                candidate = shorter.replace(old, new, 1) if old else shorter
                if candidate in own:
                    return candidate
    return key
