"""One stored case of a VLM2Vec golden set: its tensors as our inputs, and what model and processor make of it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from mmret.models.backbones.vlm_family import Film
from mmret.models.vlm2vec import VLM2Vec
from mmret.parity.report import EXACT, Report
from mmret.types import Inputs

STATE = 1e-4
"""States before normalisation are an order larger than unit vectors."""


def compare_case(
    model: VLM2Vec, name: str, case: Mapping[str, Any], stored: Mapping[str, Tensor], report: Report, tolerance: float
) -> None:
    """States, pooled states and embeddings of stored inputs; the processor's ids and pixels from texts and pictures."""
    inputs = golden_inputs(model, name, stored)
    mask = inputs.dense["attention_mask"]
    with torch.no_grad():
        if f"{name}.last_hidden_state" in stored:
            states = model.hidden(inputs.dense["input_ids"], mask, inputs) * mask.unsqueeze(2)
            report.compare(f"{name}.last_hidden_state", states, stored[f"{name}.last_hidden_state"], STATE)
        report.compare(f"{name}.pooled", model.pooled(inputs), stored[f"{name}.pooled"], STATE)
        report.compare(f"{name}.embedding", model.encode_query(inputs).vectors, stored[f"{name}.embedding"], tolerance)

    processor = copy(model.processor)
    processor.max_length = case.get("max_length")
    if "num_crops" in case:
        processor.family = model.spec.family(max_tiles=case["num_crops"])
    processor.padding = "left" if bool(mask[:, -1].all()) else "right"
    pictures = [_pictures(name, row, count, stored) for row, count in enumerate(case["images"])]
    film_token = processor.family.VIDEO_PLACEHOLDER
    moving = [film_token in text for text in case["texts"]]
    ours = processor.rows(
        case["texts"],
        [[] if film else row for row, film in zip(pictures, moving)],
        [[Film(row)] if film else [] for row, film in zip(pictures, moving)],
    )
    for key in ("input_ids", "attention_mask"):
        # What stands at padding is the tokenizer's business; nobody reads it. Some sets are stored wider than needed.
        missing = mask.shape[1] - ours.dense[key].shape[1]
        mine = pad(ours.dense[key], (missing, 0) if processor.padding == "left" else (0, missing))
        report.compare(f"{name} processor {key}", mine * mask, inputs.dense[key] * mask, EXACT)
    for key, rows in inputs.ragged.items():
        theirs, mine = torch.cat(list(rows)), torch.cat(list(ours.ragged.get(key, [torch.empty(0)])))
        report.compare(f"{name} processor {key}", mine, theirs, EXACT)


def golden_inputs(model: VLM2Vec, name: str, stored: Mapping[str, Tensor]) -> Inputs:
    """A case's stored tensors as our inputs: one tensor of patches or tiles per row."""
    dense = {key: stored[f"{name}.{key}"] for key in ("input_ids", "attention_mask")}
    ragged: dict[str, list[Tensor]] = {}
    for kind, pixels in (("image", "pixel_values"), ("video", "pixel_values_videos")):
        if f"{name}.{pixels}" not in stored:
            continue
        values, grid = stored[f"{name}.{pixels}"], stored.get(f"{name}.{kind}_grid_thw")
        if grid is not None:
            extra, parts = f"{kind}_grid_thw", values.split(grid.prod(1).tolist())
        else:
            extra, grid = "image_sizes", stored[f"{name}.image_sizes"]
            # Pictures are filled up to as many tiles as the largest; Phi's sizes say how many are real.
            tiles = stored.get(f"{name}.num_tiles", 1 + (grid // values.shape[-1]).prod(1)).tolist()
            parts = [value[:count] for value, count in zip(values, tiles)]
        rows = stored[f"{name}.{kind}_row"].tolist()
        for key, entries in ((pixels, parts), (extra, grid.unsqueeze(1).unbind())):
            ragged[key] = [
                torch.cat([entry for entry, row in zip(entries, rows) if row == i] or [model.family.empty(key)])
                for i in range(len(dense["input_ids"]))
            ]
    return Inputs(dense, ragged)


def _pictures(name: str, row: int, count: int, stored: Mapping[str, Tensor]) -> list[Image.Image]:
    return [Image.fromarray(stored[f"{name}.raw_image.row{row}.{i}"].numpy()) for i in range(count)]
