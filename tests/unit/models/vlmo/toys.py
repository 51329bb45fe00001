"""Small VLMo models with weights large enough to matter, and inputs for them."""

import torch

from mmret.models import VLMo, VLMoConfig
from mmret.types import Inputs

SIZE = {"width": 16, "depth": 3, "heads": 2, "vl_layers": 1, "image_px": 16, "patch_px": 8, "max_text_tokens": 9}
VOCABULARY = 300


def toy_model(seed=0, noise=0.2, **config):
    """VLMo of width 16 over 16 px pictures in four patches, in eval mode."""
    torch.manual_seed(seed)
    settings = {
        "size": "tiny",
        "tokenizer": "tiny",
        "vocabulary": VOCABULARY,
        "relative_text_span": 12,
        **SIZE,
        **config,
    }
    model = VLMo(VLMoConfig(**settings))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return model.eval()


def texts(lengths=(6, 3, 5), width=None, seed=0):
    """Random token ids of these lengths, padded."""
    generator = torch.Generator().manual_seed(seed)
    width = width or max(lengths)
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    return Inputs(
        {"input_ids": torch.randint(5, VOCABULARY, mask.shape, generator=generator) * mask, "attention_mask": mask}
    )


def pictures(number=3, px=16, seed=0):
    """Noise."""
    return Inputs({"pixel_values": torch.randn(number, 3, px, px, generator=torch.Generator().manual_seed(seed))})
