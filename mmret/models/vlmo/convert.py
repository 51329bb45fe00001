"""Published VLMo and BEiT state dicts to ours and back: names, containers, the model's part and the objectives'."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from mmret.errors import CheckpointError
from mmret.models.weights import read_weights

MODEL = {
    "relative_position_bias_table": "backbone.positions.table",
    "transformer.cls_token": "backbone.image.cls",
    "transformer.pos_embed": "backbone.image.position",
    "transformer.patch_embed.proj.": "backbone.image.patch.",
    "transformer.norm.": "backbone.norm.",
    "text_embeddings.word_embeddings.": "backbone.text.word.",
    "text_embeddings.position_embeddings.weight": "backbone.text.position",
    "text_embeddings.token_type_embeddings.": "backbone.text.token_type.",
    "text_embeddings.LayerNorm.": "backbone.text.norm.",
    "token_type_embeddings.": "backbone.modality.",
    "pooler.dense.": "pooler.",
    "itc_text_proj.fc.": "projections.text.",
    "itc_image_proj.fc.": "projections.image.",
    "itc_vl_text_proj.fc.": "projections.vl_text.",
    "itc_vl_image_proj.fc.": "projections.vl_image.",
}
BLOCK = {
    "gamma_1": "gamma_1",
    "gamma_2": "gamma_2",
    "norm1.": "attention.all.norm.",
    "attn.qkv.": "attention.all.qkv.",
    "attn.q_bias": "attention.all.q_bias",
    "attn.v_bias": "attention.all.v_bias",
    "attn.proj.": "attention.all.out.",
    "norm2_text.": "experts.text.norm.",
    "norm2_imag.": "experts.image.norm.",
    "norm2_vl.": "experts.vl.norm.",
    "mlp_text.": "experts.text.",
    "mlp_imag.": "experts.image.",
    "mlp_vl.": "experts.vl.",
}
OBJECTIVES = {
    "logit_scale": "itc.logit_scale",
    "logit_vl_scale": "itc_vl.logit_scale",
    "itm_score.fc.": "itm.head.",
    "mlm_score.bias": "mlm.bias",
    "mlm_score.transform.dense.": "mlm.hidden.",
    "mlm_score.transform.LayerNorm.": "mlm.norm.",
    "mlm_score.decoder.weight": "mlm.decoder.weight",
    "vqa_classifier.0.": "vqa.hidden.",
    "vqa_classifier.1.": "vqa.hidden_norm.",
    "vqa_classifier.3.": "vqa.output.",
    "nlvr2_classifier.0.": "nlvr2.hidden.",
    "nlvr2_classifier.1.": "nlvr2.hidden_norm.",
    "nlvr2_classifier.3.": "nlvr2.output.",
}
"""Under the names that the shipped recipes give these objectives: itc, itc_vl, itm, mlm, vqa, nlvr2."""
IGNORED = re.compile(r"^(train|val|test|dev)_|position_ids$|relative_position_index$|num_batches_tracked$")
"""Metric states and index tables: nothing learnt."""
BEIT_IGNORED = re.compile(r"^(fc_norm|head|lm_head)\.|^mask_token$|relative_position_index$")
_HEAD_ENTRIES = [
    ours + part for ours in OBJECTIVES.values() for part in (("weight", "bias") if ours.endswith(".") else ("",))
]
_BLOCK = re.compile(r"^transformer\.blocks\.(\d+)\.(.+)$")
_OWN_BLOCK = re.compile(r"^backbone\.blocks\.(\d+)\.(.+)$")


@dataclass
class Published:
    """A published state in our names, split in two."""

    model: dict[str, Tensor] = field(default_factory=dict)
    objectives: dict[str, Tensor] = field(default_factory=dict)
    """ "itm.head.weight" and so on, as a stage's objectives.safetensors."""
    unknown: dict[str, Tensor] = field(default_factory=dict)
    """Neither; under their own names."""

    @property
    def missing_of_heads(self) -> list[str]:
        """Published names of what a head lacks that is there in part."""
        begun = {key.split(".")[0] for key in self.objectives}
        lacking = [key for key in _HEAD_ENTRIES if key.split(".")[0] in begun and key not in self.objectives]
        return [str(_renamed(key, _back(OBJECTIVES))) for key in lacking]


def from_published(state: Mapping[str, Tensor]) -> Published:
    """Split and rename; floating point becomes float32. Entries in `IGNORED` go."""
    parts = Published()
    for key, value in state.items():
        if IGNORED.search(key):
            continue
        value = value.float() if value.is_floating_point() else value
        block = _BLOCK.match(key)
        inner = _renamed(block[2], BLOCK) if block else None
        if block and inner:
            parts.model[f"backbone.blocks.{block[1]}.{inner}"] = value
        elif (name := _renamed(key, MODEL)) is not None:
            parts.model[name] = value
        elif (name := _renamed(key, OBJECTIVES)) in _HEAD_ENTRIES:
            parts.objectives[str(name)] = value
        else:
            parts.unknown[key] = value
    return parts


def to_published(model: Mapping[str, Tensor], objectives: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Model and objectives as the released code names them, with the `position_ids` its own files have.

    Raises:
        CheckpointError: a part of the model has no place there (the ablations).
    """
    state: dict[str, Tensor] = {}
    problems = []
    for prefix, entries in (("", model), ("objectives.", objectives or {})):
        for key, value in entries.items():
            name = published_name(prefix + key)
            if name is None:
                problems.append(prefix + key)
            else:
                state[name] = value
    if problems:
        raise CheckpointError(
            f"{len(problems)} entries have no name in the published layout, which knows neither a standard transformer "
            "nor separate attention, and whose objectives are called itc, itc_vl, itm, mlm, vqa, nlvr2: "
            + ", ".join(problems[:8])
        )
    state["text_embeddings.position_ids"] = torch.arange(len(model["backbone.text.position"])).unsqueeze(0)
    return state


def published_name(key: str) -> str | None:
    """The released code's name of one of our entries ("objectives." before those of objectives), if it has one."""
    if key.startswith("objectives."):
        return _renamed(key.removeprefix("objectives."), _back(OBJECTIVES))
    block = _OWN_BLOCK.match(key)
    if block is None:
        return _renamed(key, _back(MODEL))
    inner = _renamed(block[2], _back(BLOCK))
    return None if inner is None else f"transformer.blocks.{block[1]}.{inner}"


def is_beit(state: Mapping[str, Tensor]) -> bool:
    """A BEiT checkpoint: plain blocks at the top level."""
    return "blocks.0.mlp.fc1.weight" in state and not any(key.startswith("transformer.") for key in state)


def from_beit(state: Mapping[str, Tensor], table: Tensor | None, resize: Callable[[Tensor], Tensor]) -> Published:
    """A BEiT checkpoint as the start of a model: image experts, attention, patches, and the picture rows of the table.

    Args:
        table: the new model's relative table [A, C]; rows that BEiT does not have keep their values.
        resize: (a layer's table [R, H]) -> the same for the model's image size.
    """
    renamed, tables, unknown = {}, {}, {}
    for key, value in state.items():
        own = re.match(r"^blocks\.(\d+)\.attn\.relative_position_bias_table$", key)
        if BEIT_IGNORED.search(key):
            continue
        if own:
            tables[int(own[1])] = value.float()
        elif key == "rel_pos_bias.relative_position_bias_table":  # one for all layers, before fine-tuning
            tables.update({layer: value.float() for layer in range(_depth(state))})
        else:
            key = re.sub(r"^blocks\.(\d+)\.mlp\.", r"blocks.\1.mlp_imag.", key)
            key = re.sub(r"^blocks\.(\d+)\.norm2\.", r"blocks.\1.norm2_imag.", key)
            renamed["transformer." + key] = value
    parts = from_published(renamed)
    unknown = {key.removeprefix("transformer."): value for key, value in parts.unknown.items()}
    if tables and table is None:
        unknown["blocks.0.attn.relative_position_bias_table"] = tables[0]
    elif tables and table is not None:
        columns = torch.cat([resize(tables[layer]) for layer in sorted(tables)], 1)
        if columns.shape[1] != table.shape[1]:
            raise CheckpointError(
                f"the checkpoint is of another size than the model: {len(tables)} blocks x "
                f"{columns.shape[1] // len(tables)} heads, and the model's table has {table.shape[1]} columns for "
                "them; set model.size to the checkpoint's"
            )
        parts.model["backbone.positions.table"] = torch.cat([columns, table[len(columns) :].to(columns)])
    return Published(parts.model, parts.objectives, unknown)


def read_container(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a weight file, from whichever container it has: `state_dict`, `module` (DeepSpeed), `model`, or bare.

    Nothing in the file is executed: only plain tensors are read.

    Raises:
        CheckpointError: no such file, not readable as plain tensors, or no table of tensors in it.
    """
    path = Path(path)
    if path.is_dir() or path.suffix == ".safetensors":
        return read_weights(path)
    if not path.is_file():
        raise CheckpointError(f"weight file {path} does not exist")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler's own error type moved between torch versions
        raise CheckpointError(
            f"{path} is incomplete or holds more than plain tensors, which is never executed here: "
            f"{str(error).splitlines()[0]}; load it with the code that wrote it and save its state dict alone"
        ) from error
    if isinstance(content, dict):
        for name in ("state_dict", "module", "model"):
            if isinstance(content.get(name), dict):
                content = content[name]
                break
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, dict) else {}
    if not tensors:
        raise CheckpointError(
            f"{path} is no table of tensors by name, neither bare nor under state_dict, module or model"
        )
    if all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors


def _back(table: Mapping[str, str]) -> dict[str, str]:
    return {ours: theirs for theirs, ours in table.items()}


def _renamed(key: str, table: Mapping[str, str]) -> str | None:
    for old, new in table.items():
        if key == old or (old.endswith(".") and key.startswith(old)):
            return new + key[len(old) :]
    return None


def _depth(state: Mapping[str, Tensor]) -> int:
    return 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))
