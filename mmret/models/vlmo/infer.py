"""The configuration that a bare state dict was made with, read off its shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmret.errors import CheckpointError
from mmret.models.vlmo.config import SIZES, VLMoConfig
from mmret.models.vlmo.position import window_of


def infer_config(state: Mapping[str, Tensor], where: str, **overrides: Any) -> VLMoConfig:
    """Configuration of a model state in our names (`from_published(...).model`).

    Heads are written nowhere in a model with absolute positions, nor the relative table's text span: the published
    models' are assumed unless `overrides` has `heads` or `relative_text_span`.

    Raises:
        CheckpointError: no VLMo state, or the table's rows fit no picture.
    """
    try:
        width = state["backbone.image.cls"].shape[-1]
        depth = 1 + max(int(key.split(".")[2]) for key in state if key.startswith("backbone.blocks."))
        patch = state["backbone.image.patch.weight"].shape[-1]
        text = state["backbone.text.word.weight"]
        positions = state["backbone.text.position"]
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{where} holds neither a VLMo nor a BEiT model: {error} is missing ({len(state)} entries look like one)"
        ) from error
    table = state.get("backbone.positions.table")
    size = next((s for s, shape in SIZES.items() if (shape["width"], shape["depth"]) == (width, depth)), "tiny")
    span = overrides.get("relative_text_span", VLMoConfig.relative_text_span)
    if table is not None:
        window = window_of(len(table), span)
        if window is None:
            raise CheckpointError(
                f"{where}: a relative table of {len(table)} rows fits no square picture with a text span of {span}; "
                "give the text length of its language stage as relative_text_span"
            )
        heads = table.shape[1] // depth
    else:
        window = round((state["backbone.image.position"].shape[1] - 1) ** 0.5)
        heads = overrides.get("heads") or (SIZES[size]["heads"] if SIZES[size]["width"] == width else None)
        if heads is None:
            raise CheckpointError(f"{where}: the number of heads cannot be read off its tensors; give heads=")
    vl = {int(key.split(".")[2]) for key in state if ".experts.vl." in key}
    contrastive = "both" if "projections.vl_text.weight" in state else "main"
    found: dict[str, Any] = {
        "size": size,
        "width": width,
        "depth": depth,
        "heads": heads,
        "vl_layers": len(vl),
        "positions": "absolute" if table is None else "relative",
        "layer_scale": 0.1 if "backbone.blocks.0.gamma_1" in state else 0.0,
        "vocabulary": len(text),
        "contrastive": contrastive if "projections.text.weight" in state else "none",
        "image_px": window * patch,
        "patch_px": patch,
        "image_types": len(state["backbone.modality.weight"]) - 1,
        "max_text_tokens": len(positions),
    }
    return VLMoConfig(**{**found, **overrides})


def infer_beit(state: Mapping[str, Tensor], **overrides: Any) -> VLMoConfig:
    """A language-stage model that a BEiT checkpoint can start: its sizes, no VL experts."""
    width = state["cls_token"].shape[-1]
    depth = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))
    patch = state["patch_embed.proj.weight"].shape[-1]
    tables = [value for key, value in state.items() if key.endswith("relative_position_bias_table")]
    found: dict[str, Any] = {
        "size": next((s for s, shape in SIZES.items() if (shape["width"], shape["depth"]) == (width, depth)), "base"),
        "width": width,
        "depth": depth,
        "heads": tables[0].shape[1] if tables else max(width // 64, 1),
        "vl_layers": 0,
        "positions": "relative" if tables else "absolute",
        "layer_scale": 0.1 if "blocks.0.gamma_1" in state else 0.0,
        "contrastive": "none",
        "image_px": patch * beit_window(state),
        "patch_px": patch,
        "max_text_tokens": overrides.get("relative_text_span", VLMoConfig.relative_text_span),
    }
    return VLMoConfig(**{**found, **overrides})


def beit_window(state: Mapping[str, Tensor]) -> int:
    """Patches along a side of a BEiT checkpoint's pictures."""
    if "pos_embed" in state:
        return round((state["pos_embed"].shape[1] - 1) ** 0.5)
    rows = next(len(value) for key, value in state.items() if key.endswith("relative_position_bias_table"))
    return (round((rows - 3) ** 0.5) + 1) // 2
