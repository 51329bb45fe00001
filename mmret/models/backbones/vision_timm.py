"""Any timm model as a vision tower. A convolutional map is read as patches, its mean as the global feature."""

# N pictures, P patches, D width

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from mmret.errors import CheckpointError, ConfigError
from mmret.models.backbones.source import find_local
from mmret.models.backbones.vision import VisionSpec
from mmret.models.backbones.vision_clip import keep_patches
from mmret.models.weights import read_weights


def timm_spec(name: str, px: int | None) -> VisionSpec:
    """The spec of a timm model.

    Raises:
        ConfigError: timm has no such model, or no such weights (tag) of it.
    """
    import timm

    model, dot, tag = name.partition(".")
    if not timm.is_model(model):
        near = get_close_matches(model, timm.list_models(), n=1)
        raise ConfigError(
            f"model.vision: timm has no model {model}" + (f". Did you mean timm:{near[0]}?" if near else "")
        )
    tags = [full.partition(".")[2] for full in timm.list_models(f"{model}.*", include_tags=True)]
    if dot and tag not in tags:
        near = get_close_matches(tag, tags, n=1)
        raise ConfigError(
            f"model.vision: timm has no weights '{tag}' of {model}; it has {', '.join(tags) or 'none'}. For random "
            f"weights or a file (model.vision_weights) leave the tag out: timm:{model}"
            + (f". Did you mean timm:{model}.{near[0]}?" if near else "")
        )
    published: Any = timm.get_pretrained_cfg(name)
    size = px or (published.input_size[-1] if published else 224)
    mean, std = (published.mean, published.std) if published else ((0.5,) * 3, (0.5,) * 3)
    return VisionSpec("timm", {"model": name}, size, tuple(mean), tuple(std))


class TimmTower(nn.Module):
    """A timm model without its classifier.

    Vision transformers give the last block's first prefix token and the block before's patches, without the final norm,
    like the CLIP towers; all other models give their feature map, whose mean stands for [CLS].
    """

    def __init__(self, spec: VisionSpec) -> None:
        super().__init__()
        self.model = _create(spec, num_classes=0)
        self.depth = len(self.model.blocks) if _is_vit(self.model) else 0
        if self.depth:
            self.model.prune_intermediate_layers([self.depth - 1], prune_norm=True, prune_head=True)
            self.num_patches = int(self.model.patch_embed.num_patches)
        else:
            reduction = self.model.feature_info[-1]["reduction"]
            self.num_patches = (-(-spec.px // reduction)) ** 2
        self.width = int(self.model.num_features)
        self.drops_patches = bool(self.depth) and _is_plain_vit(self.model)
        """Whether `kept` may be given."""
        if self.drops_patches:
            self.model.patch_drop = _Keep(self.model.num_prefix_tokens)

    def forward(self, pixel_values: Tensor, kept: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """[N, 3, px, px] -> global feature [N, D], patches [N, P, D]; of some alone where `kept` [N, K] names them."""
        if self.drops_patches:
            self.model.patch_drop.kept = kept
        elif kept is not None:
            raise ValueError(f"{type(self.model).__name__} reads whole pictures only, but kept_patches are given")
        if self.depth:
            (patches, _), (last, prefix) = self.model.forward_intermediates(
                pixel_values,
                indices=[self.depth - 2, self.depth - 1],
                return_prefix_tokens=True,
                norm=False,
                output_fmt="NLC",
                intermediates_only=True,
            )
            return (prefix[:, 0] if prefix.shape[1] else last.mean(1)), patches
        features = self.model.forward_features(pixel_values)
        if features.dim() == 4:  # [N, D, h, w], or [N, h, w, D] in models that keep channels last
            channels_last = features.shape[-1] == self.width and features.shape[1] != self.width
            patches = features.flatten(1, 2) if channels_last else features.flatten(2).transpose(1, 2)
        else:
            patches = features
        return patches.mean(1), patches


class _Keep(nn.Module):
    """Stands where timm drops patches at random (after positions were added): keeps those it was told to."""

    def __init__(self, num_prefix: int) -> None:
        super().__init__()
        self.num_prefix = num_prefix
        self.kept: Tensor | None = None

    def forward(self, hidden: Tensor) -> Tensor:
        """[N, prefix + P, D] -> [N, prefix + K, D]."""
        return hidden if self.kept is None else keep_patches(hidden, self.kept, self.num_prefix)


def load_timm(spec: VisionSpec, weights: str | None) -> TimmTower:
    """The tower with a weight file's tensors, or with the library's pretrained ones (a download).

    A file whose names are another library's is read by order: as many tensors, each of the same shape.
    """
    tower = TimmTower(spec)
    if weights is None:
        try:
            whole = _create(spec, pretrained=True)
        except Exception as error:  # offline, no such tag: the hub has a dozen types for it
            raise ConfigError(
                f"model.vision: the weights of timm:{spec.config['model']} cannot be had here ({error}); download the "
                "file on a machine with access and set model.vision_weights=FILE"
            ) from error
        state = whole.state_dict()
    else:
        path = find_local(weights)
        if path is None:
            raise ConfigError(f"model.vision_weights: {weights} does not exist")
        whole = _create(spec)
        state = _by_name_or_order(whole.state_dict(), read_weights(path), str(path))
    whole.load_state_dict(state)
    own = whole.state_dict()
    tower.model.load_state_dict({key: own[key] for key in tower.model.state_dict()})
    return tower


def _by_name_or_order(own: dict[str, Tensor], stored: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    if own.keys() == stored.keys():
        return stored
    if len(own) != len(stored):
        raise CheckpointError(f"{where} holds {len(stored)} tensors, the timm model {len(own)}")
    for (key, mine), (name, theirs) in zip(own.items(), stored.items()):
        if mine.shape != theirs.shape:
            raise CheckpointError(
                f"{where} does not fit by order: {name} {tuple(theirs.shape)} where the timm model has {key} "
                f"{tuple(mine.shape)}"
            )
    return dict(zip(own, stored.values()))


def _is_vit(model: nn.Module) -> bool:
    return all(hasattr(model, name) for name in ("blocks", "patch_embed", "num_prefix_tokens", "forward_intermediates"))


def _is_plain_vit(model: nn.Module) -> bool:
    """Whether a patch's place is added to it once; not where attention looks at neighbours or rotates by place."""
    from timm.models.vision_transformer import VisionTransformer

    return isinstance(model, VisionTransformer) and hasattr(model, "patch_drop") and not hasattr(model, "rope")


def _create(spec: VisionSpec, **settings: Any) -> Any:
    import timm

    name = spec.config["model"]
    with torch.no_grad():
        model: Any = timm.create_model(name, **{"pretrained": False, **settings})
        if _is_vit(model) and model.patch_embed.img_size != (spec.px, spec.px):
            model = timm.create_model(name, **{"pretrained": False, **settings}, img_size=spec.px)
    return model
