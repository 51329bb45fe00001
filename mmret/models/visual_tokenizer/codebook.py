"""A tokenizer of our own making: the nearest of K centroids to a frozen vision tower's features of each patch."""

# B pictures, P = window^2 patches, D width, K tokens

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmret.errors import CheckpointError
from mmret.models.backbones import VisionSpec, load_vision
from mmret.models.visual_tokenizer.tokenizer import TokenizerFacts, VisualTokenizer, resized
from mmret.ops import nearest_centroid

KIND = "codebook"
CONFIG, CENTROIDS = "config.json", "codebook.safetensors"


@dataclass(frozen=True)
class CodebookConfig:
    """What the centroids were made with."""

    vision: str
    """The tower, as a recipe's `model.vision` names it."""
    backbone: VisionSpec
    """Its architecture, the size of its pictures, and how they are normalised."""
    window: int
    """Patches along one side of the pictures. The same centroids for smaller patches would fit badly."""
    vision_weights: str | None = None
    """A weight file instead of the tower's own source."""


class Codebook(VisualTokenizer):
    """Token = nearest centroid by cosine, as in BEiT v2's quantizer (Peng et al. 2022, Eq. 1), the teacher being the
    encoder: nothing is trained. A tower with coarser or finer features is resampled to the patches.

    Args:
        tower: pixels to (global feature, patches [B, N, D]), N a square.
        centroids: [K, D], unit length.
    """

    def __init__(self, config: CodebookConfig, tower: nn.Module, centroids: Tensor) -> None:
        super().__init__(TokenizerFacts(len(centroids), config.window))
        self.config = config
        self.tower = tower.to(memory_format=torch.channels_last)
        self.register_buffer("centroids", centroids)
        spec = config.backbone
        self.register_buffer("mean", torch.tensor(spec.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(spec.std).view(3, 1, 1))

    def tokens(self, pixels: Tensor, window: int) -> Tensor:
        """[B, 3, px, px] in [0, 1] -> [B, P]."""
        features = self.features(pixels, window)
        return nearest_centroid(features.flatten(0, 1), self.get_buffer("centroids"))[1].view(len(pixels), -1)

    @torch.no_grad()
    def features(self, pixels: Tensor, window: int) -> Tensor:
        """[B, P, D], unit length."""
        pixels = (resized(pixels, self.config.backbone.px) - self.get_buffer("mean")) / self.get_buffer("std")
        patches: Tensor = self.tower(pixels)[1]
        B, N, D = patches.shape
        side = round(N**0.5)
        maps = resized(patches.transpose(1, 2).reshape(B, D, side, side), window)
        return normalize(maps.flatten(2).transpose(1, 2), dim=-1)

    def save(self, folder: str | Path) -> None:
        """Write config.json and codebook.safetensors. The tower's weights are named, not copied."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state = {"centroids": self.get_buffer("centroids").cpu().contiguous()}
        save_file(state, folder / CENTROIDS, metadata={"format": "pt"})
        settings = {**asdict(self.config), "num_tokens": self.facts.num_tokens}
        (folder / CONFIG).write_text(json.dumps({"visual_tokenizer": KIND, "config": settings}, indent=1))


def load_codebook(folder: Path) -> Codebook:
    """Open a folder that `Codebook.save` wrote, and the tower that it names.

    Raises:
        CheckpointError: a file of the folder is missing or of another layout, or the tower's weights do not fit.
        ConfigError: the tower's weights are not here.
    """
    settings = _settings(folder)
    config = CodebookConfig(
        settings["vision"], VisionSpec.from_dict(settings["backbone"]), settings["window"], settings["vision_weights"]
    )
    path = folder / CENTROIDS
    if not path.is_file():
        raise CheckpointError(f"{folder} has no {CENTROIDS}; copy it again, or make it anew: mmret codebook")
    centroids = load_file(path)["centroids"]
    tower = load_vision(config.vision, config.backbone, config.vision_weights)
    width = int(tower.width)  # pyright: ignore[reportArgumentType]
    if centroids.shape != (settings["num_tokens"], width):
        raise CheckpointError(
            f"{path}: centroids {tuple(centroids.shape)}, expected {(settings['num_tokens'], width)} (tokens of "
            f"{CONFIG}, width of {config.vision})"
        )
    return Codebook(config, tower, centroids)


def codebook_facts(folder: Path) -> TokenizerFacts:
    """From config.json alone."""
    settings = _settings(folder)
    return TokenizerFacts(settings["num_tokens"], settings["window"])


def _settings(folder: Path) -> Mapping[str, Any]:
    path = folder / CONFIG
    try:
        content = json.loads(path.read_text()) if path.is_file() else {}
    except ValueError as error:
        raise CheckpointError(f"{path} does not parse ({error})") from error
    if content.get("visual_tokenizer") != KIND:
        raise CheckpointError(
            f"{folder} is no visual tokenizer: want the folder that `mmret codebook` wrote ({CONFIG}, {CENTROIDS}), or "
            "the file of a DALL-E encoder's state dict"
        )
    return content["config"]
