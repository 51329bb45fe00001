"""CLIP and SigLIP vision transformers, built from transformers' blocks; weights from transformers or open_clip."""

# N pictures, P patches, D width

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmret.errors import CheckpointError, ConfigError
from mmret.models.backbones.source import find_local, local_folder
from mmret.models.backbones.vision import VisionSpec
from mmret.models.weights import load_strictly, read_weights

UNUSED = ("post_layernorm.", "head.")
"""Parts of the published towers that late interaction never reads."""


class ClipTower(nn.Module):
    """A tower that gives the last layer's [CLS] and the patches of the layer before, neither with the final norm.

    The blocks are run one by one here: only the two states needed are kept, and parameter names do not follow the
    library's changes of nesting. SigLIP has no [CLS]; the mean of its last layer's patches takes the place.
    """

    def __init__(self, spec: VisionSpec) -> None:
        super().__init__()
        from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel

        settings = {k: v for k, v in spec.config.items() if k not in ("model_type", "dtype", "torch_dtype")}
        if spec.kind == "clip":
            whole: Any = CLIPVisionModel(CLIPVisionConfig(**settings))
        else:
            whole = SiglipVisionModel(SiglipVisionConfig(**settings))
        whole = getattr(whole, "vision_model", whole)
        self.config = whole.config
        self.embeddings = whole.embeddings
        self.pre_layrnorm = whole.pre_layrnorm if spec.kind == "clip" else nn.Identity()
        self.layers = whole.encoder.layers
        self.has_cls = spec.kind == "clip"
        self.width: int = self.config.hidden_size
        self.num_patches: int = (self.config.image_size // self.config.patch_size) ** 2
        self.drops_patches = True

    def forward(self, pixel_values: Tensor, kept: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """[N, 3, px, px] -> global feature [N, D], patches [N, P, D]; of some alone where `kept` [N, K] names them."""
        hidden = self.embeddings(pixel_values)
        if kept is not None:
            hidden = keep_patches(hidden, kept, int(self.has_cls))
        hidden = before = self.pre_layrnorm(hidden)
        for layer in self.layers:
            before = hidden
            hidden = layer(hidden, None)
        if self.has_cls:
            return hidden[:, 0], before[:, 1:]
        return hidden.mean(1), before


def keep_patches(hidden: Tensor, kept: Tensor, num_prefix: int) -> Tensor:
    """[N, prefix + P, D] -> [N, prefix + K, D]: what stands before the patches, then the patches `kept` [N, K]."""
    patches = hidden[:, num_prefix:].gather(1, kept[:, :, None].expand(-1, -1, hidden.shape[2]))
    return torch.cat([hidden[:, :num_prefix], patches], 1)


def own_keys(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A published tower's keys as `ClipTower` names them, whatever levels of `vision_model.` they carry."""
    own = {}
    for key, value in state.items():
        key = key.rpartition("vision_model.")[2]
        if not key.startswith(UNUSED) and not key.endswith("position_ids"):
            own[key.replace("encoder.layers.", "layers.", 1)] = value.float()
    return own


def load_transformers(name: str, spec: VisionSpec, weights: str | None) -> ClipTower:
    """A CLIP or SigLIP model's vision half, from a folder or the hub; `weights` may name another file."""
    folder = local_folder(name, "model.vision", weights=weights is None)
    source: Path = folder if weights is None else _file(weights)
    state = read_weights(source)
    vision = {key: value for key, value in state.items() if "vision_model." in key} or state
    if any(key.startswith(("query_vision_encoder.", "vision.")) for key in state):
        raise ConfigError(
            f"model.vision: {source} is a PreFLMR checkpoint; it gives the architecture here, its weights come in "
            "through the stage's init_from"
        )
    tower = ClipTower(spec)
    load_strictly(tower, own_keys(vision), f"the vision tower in {source}")
    return tower


def open_clip_config(name: str) -> dict[str, Any]:
    """The transformers configuration of an OpenCLIP vision transformer.

    Raises:
        ConfigError: no such model, or its tower is no plain vision transformer.
    """
    import open_clip

    from mmret.models.backbones.vision import CLIP_BASE

    found = open_clip.get_model_config(name)
    if found is None:
        raise ConfigError(f"model.vision: open_clip has no model {name}.{_nearest(name, open_clip.list_models())}")
    vision = dict(found["vision_cfg"])
    known = {"image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size", "patch_dropout"}
    if not set(vision) <= known or not isinstance(vision["layers"], int) or not isinstance(vision["image_size"], int):
        odd = ", ".join(sorted(set(vision) - known)) or "layers or image_size per stage"
        raise ConfigError(f"model.vision: the tower of open_clip:{name} is no plain vision transformer ({odd})")
    return {
        **CLIP_BASE,
        "hidden_size": vision["width"],
        "intermediate_size": int(vision["width"] * vision.get("mlp_ratio", 4.0)),
        "projection_dim": found["embed_dim"],
        "num_hidden_layers": vision["layers"],
        "num_attention_heads": vision["width"] // vision.get("head_width", 64),
        "image_size": vision["image_size"],
        "patch_size": vision["patch_size"],
        # OpenAI's weights want the quick GELU; OpenCLIP says so in the model's name, not in the weights.
        "hidden_act": "quick_gelu" if found.get("quick_gelu") else "gelu",
    }


def check_pretrained(model: str, pretrained: str, config: Mapping[str, Any]) -> None:
    """Refuse what is neither a weight file nor one of the library's tags; nothing, or a path, may be given later.

    Args:
        config: the model's `open_clip_config`.

    Raises:
        ConfigError: no such tag, or one whose weights want another activation.
    """
    import open_clip

    if not pretrained or "/" in pretrained or Path(pretrained).exists():
        return
    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained not in tags:
        raise ConfigError(f"model.vision: {_wanted(model, tags)}; got '{pretrained}'.{_nearest(pretrained, tags)}")
    if pretrained == "openai" and config["hidden_act"] != "quick_gelu":
        raise ConfigError(f"model.vision: OpenAI's weights want the quick GELU; use open_clip:{model}-quickgelu/openai")


def load_open_clip(model: str, pretrained: str, spec: VisionSpec) -> ClipTower:
    """An OpenCLIP model's vision half: a weight file, or one of the library's pretrained tags (a download)."""
    path = find_local(pretrained) if pretrained else None
    if path is not None:
        state = {key.removeprefix("module."): value for key, value in read_weights(path).items()}
    else:
        import open_clip

        tags = open_clip.list_pretrained_tags_by_model(model)
        if pretrained not in tags:
            raise ConfigError(f"model.vision: {_wanted(model, tags)}; got '{pretrained}'")
        check_pretrained(model, pretrained, spec.config)
        try:
            state = open_clip.create_model(model, pretrained=pretrained).state_dict()
        except Exception as error:  # offline, no access: the hub has a dozen types for it
            raise ConfigError(
                f"model.vision: the weights of open_clip:{model}/{pretrained} cannot be had here ({error}); download "
                "the file on a machine with access and set model.vision_weights=FILE"
            ) from error
    visual = {key[len("visual.") :]: value for key, value in state.items() if key.startswith("visual.")}
    tower = ClipTower(spec)
    load_strictly(tower, from_open_clip(visual or state), f"the vision tower of open_clip:{model}/{pretrained}")
    return tower


def from_open_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """OpenCLIP's vision transformer keys as `ClipTower` names them; its joint in_proj becomes q, k and v."""
    if "conv1.weight" not in state:
        raise CheckpointError("no OpenCLIP vision transformer: conv1.weight is missing")
    own = {
        "embeddings.class_embedding": state["class_embedding"],
        "embeddings.patch_embedding.weight": state["conv1.weight"],
        "embeddings.position_embedding.weight": state["positional_embedding"],
        "pre_layrnorm.weight": state["ln_pre.weight"],
        "pre_layrnorm.bias": state["ln_pre.bias"],
    }
    parts = {
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "attn.out_proj": "self_attn.out_proj",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
    }
    for key, value in state.items():
        _, found, rest = key.partition("transformer.resblocks.")
        if not found:
            continue
        layer, _, name = rest.partition(".")
        stem, _, kind = name.rpartition(".")
        if name.startswith("attn.in_proj_"):
            for letter, third in zip("qkv", value.chunk(3)):
                own[f"layers.{layer}.self_attn.{letter}_proj.{name.removeprefix('attn.in_proj_')}"] = third
        else:
            own[f"layers.{layer}.{parts[stem]}.{kind}"] = value
    return {key: value.float().contiguous() for key, value in own.items()}


def _wanted(model: str, tags: Sequence[str]) -> str:
    known = f" or one of the tags {', '.join(tags)}" if tags else ""
    return f"open_clip:{model} needs weights: a file (open_clip:{model}//path/to/file, or model.vision_weights){known}"


def _nearest(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]}?" if near else ""


def _file(name: str) -> Path:
    found = find_local(name)
    if found is None:
        raise ConfigError(f"model.vision_weights: {name} does not exist")
    return found
