"""Small PreFLMR models with weights large enough to matter, and pictures for them."""

import random

import torch
from PIL import Image

from mmret.models import PreFLMR, PreFLMRConfig
from mmret.models.backbones import TextSpec, TextTokenizer, VisionSpec
from mmret.models.backbones.text import BERT_BASE
from mmret.models.backbones.tokenizer import TINY_VOCABULARY
from mmret.models.backbones.vision import CLIP_BASE
from mmret.types import EncodedImage


def toy_model(text_layers=2, vision_layers=2, activation="quick_gelu", seed=0, **config):
    """PreFLMR of width 16 over 8 px pictures in four patches, in eval mode."""
    torch.manual_seed(seed)
    text = TextSpec(
        {
            **BERT_BASE,
            **{"vocab_size": len(TINY_VOCABULARY), "hidden_size": 16, "num_hidden_layers": text_layers},
            **{"num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 64},
        }
    )
    tower = {
        **CLIP_BASE,
        **{"hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": vision_layers, "num_attention_heads": 2},
        **{"image_size": 8, "patch_size": 4, "hidden_act": activation, "projection_dim": 8},
    }
    settings = {
        **{"dim": 8, "prefix_tokens": 2, "query_tokens": 16, "document_tokens": 32, "cross_attention_tokens": 12},
        **{"mapping_heads": 2, "mapping_ffn": 24},
        **config,
    }
    vision = None if "vision" in config and config["vision"] is None else VisionSpec("clip", tower, 8)
    model = PreFLMR(PreFLMRConfig(**settings), text=text, vision=vision, tokenizer=TextTokenizer.tiny())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def picture(seed, size=(11, 9)):
    """Noise of a given seed, as bytes."""
    rng = random.Random(seed)
    image = Image.frombytes("RGB", size, bytes(rng.randrange(256) for _ in range(3 * size[0] * size[1])))
    return EncodedImage.of(image, f"picture-{seed}.png")
