"""Position tables for another image size: BEiT's scheme for relative ones, bicubic for absolute ones."""

# w patches along a side; columns C = heads x layers

from __future__ import annotations

import torch
from torch import Tensor

from mmret.errors import CheckpointError
from mmret.models.vlmo.config import VLMoConfig
from mmret.models.vlmo.position import window_of

TABLE, TEXT, IMAGE = "backbone.positions.table", "backbone.text.position", "backbone.image.position"
TYPES, PATCH = "backbone.modality.weight", "backbone.image.patch.weight"


def resize_state(state: dict[str, Tensor], config: VLMoConfig) -> dict[str, Tensor]:
    """A model's state with position tables, text positions and type embeddings as `config` wants them.

    Raises:
        CheckpointError: the state is of another width, depth, number of heads or patch size; the relative table is of
            another text span; or there are fewer text positions than wanted.
    """
    state = dict(state)
    _refuse_other_size(state, config)
    if TABLE in state:
        state[TABLE] = resize_table(state[TABLE], config.window, config.relative_text_span)
    if IMAGE in state:
        state[IMAGE] = resize_absolute(state[IMAGE], config.window)
    if TEXT in state:
        state[TEXT] = _text_positions(state[TEXT], config)
    if TYPES in state:  # a second picture's type starts as the first's, as in the released code
        types = state[TYPES]
        state[TYPES] = torch.cat([types, types[1:2]])[: 1 + config.image_types] if len(types) == 2 else types
        state[TYPES] = state[TYPES][: 1 + config.image_types]
    return state


def resize_table(table: Tensor, window: int, text_span: int) -> Tensor:
    """A relative table [A, C] for `window` patches a side; only picture offsets change, all later rows are copied."""
    before = window_of(len(table), text_span)
    if before is None:
        raise CheckpointError(
            f"a relative position table of {len(table)} rows fits no square picture with model.relative_text_span = "
            f"{text_span}; set that to the text length of the checkpoint's language stage (released models: 196)"
        )
    return resize_offsets(table, before, window)


def resize_offsets(table: Tensor, before: int, window: int) -> Tensor:
    """The first (2 before - 1)^2 rows, offsets between patches, resampled to (2 window - 1)^2; the rest copied.

    BEiT's scheme: known offsets lie at geometrically growing distances from 0, chosen so that they reach just as far as
    the wanted ones, which are the whole numbers; between them a bicubic spline through every known value. Near
    offsets thus keep their meaning, far ones are stretched.
    """
    if before == window:
        return table
    from scipy.interpolate import RectBivariateSpline

    known, wanted = 2 * before - 1, 2 * window - 1
    grid = _geometric_grid(before - 1, window - 1)
    at = torch.arange(-(window - 1), window).double().numpy()
    degree = min(3, known - 1)
    columns = []
    for column in table[: known**2].T.double().cpu():
        values = column.view(known, known).numpy()
        spline = RectBivariateSpline(grid, grid, values, kx=degree, ky=degree, s=0)
        columns.append(torch.from_numpy(spline(at, at)).reshape(wanted**2))
    offsets = torch.stack(columns, 1).to(table)
    return torch.cat([offsets, table[known**2 :]])


def resize_absolute(position: Tensor, window: int) -> Tensor:
    """Absolute picture positions [1, 1 + P, D] for `window` patches a side; [CLS] is kept, patches are bicubic."""
    cls, patches = position[:, :1], position[:, 1:]
    before = round(patches.shape[1] ** 0.5)
    if before == window:
        return position
    if before**2 != patches.shape[1]:
        raise CheckpointError(f"{patches.shape[1]} picture positions are no square; only square pictures are resampled")
    grid = patches.float().view(1, before, before, -1).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, (window, window), mode="bicubic", align_corners=False)
    return torch.cat([cls, grid.permute(0, 2, 3, 1).flatten(1, 2).to(position)], 1)


def _geometric_grid(count: int, reach: int) -> list[float]:
    """2 count + 1 places, symmetric about 0, at distances 1, 1 + q, 1 + q + q^2, ... of which the last is `reach`.

    The ratio q is found by bisection in [1.01, 1.5] to 1e-6, as published: the places depend on it.
    """
    low, high = 1.01, 1.5
    ratio = low
    while high - low > 1e-6:
        ratio = (low + high) / 2
        if (1 - ratio**count) / (1 - ratio) > reach:
            high = ratio
        else:
            low = ratio
    distances: list[float] = []
    step = 1.0
    for _ in range(count):
        distances.append((distances[-1] if distances else 0.0) + step)
        step *= ratio
    return [-d for d in reversed(distances)] + [0.0] + distances


def _refuse_other_size(state: dict[str, Tensor], config: VLMoConfig) -> None:
    """What no resampling can change, said once instead of entry by entry."""
    found: dict[str, int] = {}
    blocks = {int(key.split(".")[2]) for key in state if key.startswith("backbone.blocks.")}
    if blocks:
        found["depth"] = 1 + max(blocks)
    if PATCH in state:
        found["width"], found["patch_px"] = len(state[PATCH]), state[PATCH].shape[-1]
    if TABLE in state and blocks:
        found["heads"] = state[TABLE].shape[1] // len(blocks)
    wanted = {**config.shape, "patch_px": config.patch_px}
    wrong = [f"{key} {value} (model: {wanted[key]})" for key, value in found.items() if value != wanted[key]]
    if wrong:
        raise CheckpointError(
            f"the checkpoint is of another size than the model ({config.size}): {', '.join(wrong)}; set model.size, or "
            "these settings, to the checkpoint's: only pictures and texts can change their length"
        )


def _text_positions(position: Tensor, config: VLMoConfig) -> Tensor:
    missing = config.max_text_tokens - len(position)
    if missing <= 0:
        return position[: config.max_text_tokens]
    if config.shape["positions"] == "absolute":
        raise CheckpointError(
            f"the checkpoint has {len(position)} text positions, model.max_text_tokens asks for "
            f"{config.max_text_tokens}; set it to at most that"
        )
    return torch.nn.functional.pad(position, (0, 0, 0, missing))  # nothing reads them beside a relative table
