"""What golden sets of Phi-3.5-V hold beside embeddings: picture tokens, rotary tables, crops at toy and full size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mmret.models.backbones.phi3_v import Phi3V, arrange
from mmret.models.backbones.phi3_v_crops import Crops
from mmret.models.vlm2vec import VLM2Vec
from mmret.parity.report import EXACT, MIDDLE, Report
from mmret.types import Inputs

PATCH_PX = 14
"""Of the published tower, which the tables at full size are about."""
TABLE = "size_table_"
"""Start of the name of a table of sizes; a crop's side follows."""
ORDER = "hd_order_"
"""Start of the names of tables of what each picture token is made of; the side follows, and the crops: 336.2x3."""


def compare_states(model: VLM2Vec, name: str, inputs: Inputs, stored: Mapping[str, Tensor], report: Report) -> None:
    """Vision tower, projected picture tokens and what the decoder reads, of one case's inputs."""
    assert isinstance(model.vlm, Phi3V)
    pictures = model.family.arguments(inputs.ragged)
    if not pictures:
        return
    pixels, sizes = pictures["pixel_values"], pictures["image_sizes"]
    with torch.no_grad():
        ours = {
            "image_features": model.vlm.vision_embed_tokens(pixels, sizes),
            "inputs_embeds": model.vlm.embedded(inputs.dense["input_ids"], pixels, sizes),
            "num_img_tokens": (inputs.dense["input_ids"] < 0).sum().view(1),
        }
        patches = model.vlm.vision_embed_tokens.patches(pixels).flatten(1, 2)
    theirs = {key: stored[f"{name}.{key}"] for key in ours if f"{name}.{key}" in stored}
    if "num_img_tokens" in theirs:
        theirs["num_img_tokens"] = theirs["num_img_tokens"].sum().view(1)
    for key, value in theirs.items():
        report.compare(f"{name}.{key}", ours[key], value, EXACT if value.dtype == torch.long else MIDDLE)
    if f"{name}.vision_features" in stored:
        # Theirs went through the tower with empty crops, which nobody reads.
        views = [1 + int(size.prod()) for size in sizes // pixels.shape[-1]]
        read = torch.cat([rows[:count] for rows, count in zip(stored[f"{name}.vision_features"], views)])
        report.compare(f"{name}.vision_features", patches, read, MIDDLE)


def compare_parts(model: VLM2Vec, golden: Mapping[str, Any], stored: Mapping[str, Tensor], report: Report) -> None:
    """Rotary tables; pictures to crops; tables of sizes and of token order, at the published crop side too."""
    assert isinstance(model.vlm, Phi3V)
    rope = model.vlm.rotary_emb
    for name in (key for key in stored if key.startswith("rope.")):
        table = stored[name]
        rope.width = rope.original + (1 if ".long." in name else 0)
        cos, sin = rope(table, torch.arange(len(table)).unsqueeze(0))
        report.compare(name, (cos if name.endswith("cos") else sin)[0], table, MIDDLE)
    for name, case in golden.get("processor_cases", {}).items():
        tower = model.spec.config["img_processor"]["vision_config"]
        patch_px = tower["patch_size"] if case["crop_side"] == tower["image_size"] else PATCH_PX
        _crops(name, _of(model, case["crop_side"], case["num_crops"]), patch_px, stored, report)
    for name in (key for key in stored if key.startswith(TABLE)):
        side = int(name.removeprefix(TABLE))
        rows = []
        for width, height, limit, *_ in stored[name].tolist():
            crops = _of(model, side, limit)
            size = crops.padded(width, height)
            rows.append([width, height, limit, *size, crops.tokens(*size, PATCH_PX)])
        report.compare(name, torch.tensor(rows), stored[name], EXACT)
    for name in (key for key in stored if key.startswith(ORDER)):
        side, _, grid = name.removeprefix(ORDER).partition(".")
        rows, columns = (int(count) for count in grid.split("x"))
        per_side = int(side) // PATCH_PX
        views = torch.arange((1 + rows * columns) * per_side**2).view(-1, per_side, per_side, 1)
        ours = arrange(views, rows, columns, torch.full((4,), -1), torch.full((4,), -2))
        report.compare(name, ours, stored[name], EXACT)


def _of(model: VLM2Vec, side: int, num_crops: int) -> Crops:
    crops = model.family.processor
    return Crops(side, num_crops, crops.mean, crops.std)


def _crops(name: str, crops: Crops, patch_px: int, stored: Mapping[str, Tensor], report: Report) -> None:
    """One raw picture's padded size, number of tokens and pixels, all of them or every 16th."""
    views, size = crops(Image.fromarray(stored[f"{name}.raw_image"].numpy()))
    report.compare(f"{name}.image_sizes", torch.tensor(size), stored[f"{name}.image_sizes"], EXACT)
    tokens = torch.tensor([crops.tokens(*size, patch_px)])
    report.compare(f"{name}.num_img_tokens", tokens, stored[f"{name}.num_img_tokens"], EXACT)
    whole = torch.cat([views, views.new_zeros(1 + crops.num_crops - len(views), *views.shape[1:])])
    ours = {
        "pixel_values": views,
        "pixel_values_sub": whole[..., ::16, ::16],
        "pixel_mean": whole.mean((2, 3)),
        "pixel_absmean": whole.abs().mean((2, 3)),
    }
    for key in ours.keys() & {key.rpartition(".")[2] for key in stored if key.startswith(f"{name}.")}:
        tolerance = EXACT if key.startswith("pixel_values") else MIDDLE
        report.compare(f"{name}.{key}", ours[key], stored[f"{name}.{key}"], tolerance)
