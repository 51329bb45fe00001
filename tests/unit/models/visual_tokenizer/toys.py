"""Small visual tokenizers on disk, with weights large enough that different pictures get different tokens."""

import torch
from torch import nn

from mmret.models.backbones import build_vision, vision_spec
from mmret.models.visual_tokenizer import Codebook, CodebookConfig, DalleEncoder

TOWER = "timm:test_efficientnet"
"""A convolutional tower of timm's own tests: 32 pixels a feature."""


class Colours(nn.Module):
    """A tower whose feature of a patch of 4 px is its mean colour."""

    width = 3

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, pixels):
        patches = nn.functional.avg_pool2d(pixels, 4).flatten(2).transpose(1, 2) * self.scale
        return patches.mean(1), patches


def dalle(num_tokens=16, width=8, blocks=1, seed=0):
    """A DALL-E encoder with random weights, frozen."""
    torch.manual_seed(seed)
    encoder = DalleEncoder(width, blocks, num_tokens)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            parameter.mul_(3 if name.endswith("w") else 1).add_(0.1 * torch.randn_like(parameter))
        last = encoder.blocks.output.conv  # no token shall win everywhere
        last.b.sub_(encoder.logits(torch.rand(16, 3, 32, 32)).mean((0, 2, 3)))
    return encoder.frozen()


def write_dalle(path, **settings):
    """The same as a file."""
    torch.save(dalle(**settings).state_dict(), path)
    return path


def write_codebook(folder, window=4, num_tokens=6, px=64):
    """A codebook with random centroids, and the weight file of its tower beside it."""
    folder.mkdir(parents=True)
    torch.manual_seed(1)
    spec = vision_spec(TOWER, px)
    tower = build_vision(spec)
    weights = folder / "tower.pt"
    torch.save(whole_state(tower), weights)
    config = CodebookConfig(TOWER, spec, window, str(weights))
    centroids = torch.nn.functional.normalize(torch.randn(num_tokens, tower.width), dim=-1)
    Codebook(config, tower, centroids).save(folder)
    return folder


def whole_state(tower):
    """As timm itself would have saved it: with a classifier that towers do not have."""
    import timm

    whole = timm.create_model(TOWER.removeprefix("timm:"), pretrained=False)
    whole.load_state_dict(tower.model.state_dict(), strict=False)
    return whole.state_dict()
