"""Vision towers: pixels to one global feature and patch features. Which tower a recipe names, and how to build it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from mmret.errors import ConfigError
from mmret.models.backbones.picture import CLIP_MEAN, CLIP_STD
from mmret.models.backbones.source import find_local, folder_config, local_folder

TINY = "tiny"
"""A random two-layer CLIP ViT on 32 px pictures, for tests."""
OPEN_CLIP, TIMM = "open_clip:", "timm:"

CLIP_BASE: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "attention_dropout": 0.0,
}
"""CLIP ViT-B/32. A published PreFLMR configuration gives only what differs from it."""
CLIP_LARGE: dict[str, Any] = {
    **CLIP_BASE,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "projection_dim": 768,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
}
# OpenCLIP trained bigG with the exact GELU; OpenAI's models use the quick one.
CLIP_BIG_G: dict[str, Any] = {
    **CLIP_BASE,
    "hidden_size": 1664,
    "intermediate_size": 8192,
    "projection_dim": 1280,
    "num_hidden_layers": 48,
    "num_attention_heads": 16,
    "patch_size": 14,
    "hidden_act": "gelu",
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "openai/clip-vit-base-patch32": CLIP_BASE,
    "openai/clip-vit-base-patch16": {**CLIP_BASE, "patch_size": 16},
    "openai/clip-vit-large-patch14": CLIP_LARGE,
    "openai/clip-vit-large-patch14-336": {**CLIP_LARGE, "image_size": 336},
    "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k": CLIP_BIG_G,
}
"""Sizes known without a download, so that a recipe can be checked anywhere."""


@dataclass(frozen=True)
class VisionSpec:
    """Which vision tower: all that is needed to build it without a download."""

    kind: str
    """clip | siglip | timm"""
    config: dict[str, Any]
    """clip, siglip: the transformers vision configuration; timm: {"model": its name}."""
    px: int
    """Width and height of its input."""
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    fit: str = "crop"
    """How its published preprocessing makes pictures square (`PictureSettings.fit`)."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> VisionSpec:
        """From `to_dict`'s JSON."""
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})


def vision_spec(name: str, px: int | None = None, *, download: bool = True) -> VisionSpec:
    """The architecture that a recipe's `vision` names.

    Args:
        name: hub id or folder of a CLIP or SigLIP model or of a PreFLMR checkpoint, `package:...`,
            `open_clip:NAME[/PRETRAINED]`, `timm:NAME`, or `tiny`.
        px: size of the pictures; None: the tower's own.
        download: ask the hub for a configuration that is not known here.

    Raises:
        ConfigError: unknown here and not to be had, or `px` is not the tower's and its positions are fixed.
    """
    if name.startswith(TIMM):
        from mmret.models.backbones.vision_timm import timm_spec

        return timm_spec(name[len(TIMM) :], px)
    if name.startswith(OPEN_CLIP):
        from mmret.models.backbones.vision_clip import check_pretrained, open_clip_config

        model, _, pretrained = name[len(OPEN_CLIP) :].partition("/")
        config = open_clip_config(model)
        check_pretrained(model, pretrained, config)
        return _checked(VisionSpec("clip", config, config["image_size"]), px, name)
    if name == TINY:
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        return _checked(VisionSpec("clip", {**CLIP_BASE, **sizes, "image_size": 32, "patch_size": 8}, 32), px, name)
    folder = find_local(name)
    if folder is None and name in ARCHITECTURES:
        config = ARCHITECTURES[name]
        return _checked(VisionSpec("clip", config, config["image_size"]), px, name)
    if folder is None and not download:
        raise ConfigError(
            f"model.vision: the size of '{name}' is not known offline; known: {', '.join(ARCHITECTURES)}, "
            "open_clip:NAME, timm:NAME. Download it to a folder and set model.vision=FOLDER"
        )
    folder = folder or local_folder(name, "model.vision", weights=False)
    config = folder_config(folder, "model.vision")
    if "mmret_model" in config:
        return _checked(VisionSpec.from_dict(config["vision_backbone"]), px, name)
    kind = str(config.get("model_type", ""))
    inner = config.get("vision_config", config)
    if kind == "flmr" or kind.startswith("clip"):
        from transformers import CLIPVisionConfig

        inner = {**CLIP_BASE, **inner}
        _complete(CLIPVisionConfig, inner, folder)
        return _checked(VisionSpec("clip", inner, inner["image_size"]), px, name)
    if kind.startswith("siglip"):
        from transformers import SiglipVisionConfig

        full = _complete(SiglipVisionConfig, inner, folder)
        half = (0.5, 0.5, 0.5)
        return _checked(VisionSpec("siglip", full, full["image_size"], half, half, "squash"), px, name)
    raise ConfigError(
        f"model.vision: {folder} holds a '{kind}' model; CLIP and SigLIP are read from a folder, "
        "other towers as open_clip:NAME or timm:NAME"
    )


def build_vision(spec: VisionSpec) -> nn.Module:
    """The tower with random weights; `VisionTower`'s interface."""
    if spec.kind == "timm":
        from mmret.models.backbones.vision_timm import TimmTower

        return TimmTower(spec)
    from mmret.models.backbones.vision_clip import ClipTower

    return ClipTower(spec)


def load_vision(name: str, spec: VisionSpec, weights: str | None) -> nn.Module:
    """The tower with pretrained weights.

    Args:
        name: what the recipe calls it.
        spec: its `vision_spec`.
        weights: a weight file that replaces the tower's own source (`package:...` or a path).

    Raises:
        ConfigError: the weights are not here and not to be had.
        CheckpointError: they lack part of the tower.
    """
    if name == TINY:
        return build_vision(spec)
    if name.startswith(TIMM):
        from mmret.models.backbones.vision_timm import load_timm

        return load_timm(spec, weights)
    from mmret.models.backbones import vision_clip

    if name.startswith(OPEN_CLIP):
        model, _, pretrained = name[len(OPEN_CLIP) :].partition("/")
        return vision_clip.load_open_clip(model, weights or pretrained, spec)
    return vision_clip.load_transformers(name, spec, weights)


def _complete(cls: Any, config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """With the library's defaults."""
    try:
        return cls(**config).to_dict()
    except Exception as error:  # of transformers' checks, whose types come from another package
        why = " ".join(str(error).split())
        raise ConfigError(f"model.vision: {folder}/config.json describes no tower that can be built ({why})") from error


def _checked(spec: VisionSpec, px: int | None, name: str) -> VisionSpec:
    if px is not None and px != spec.px:
        raise ConfigError(
            f"model.image_px: {name} has position embeddings for {spec.px} px, not {px}; leave image_px out, "
            "or use a timm: tower, which takes any size"
        )
    return spec
