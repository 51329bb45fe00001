"""Small VLMo models with weights large enough to matter, and inputs for them."""

import torch

from mmret.models import VLMo, VLMoConfig
from mmret.models.vlmo import to_published
from mmret.objectives import ITM, MLM, Classify, ClassifyConfig, ITMConfig, MLMConfig
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


def published(model):
    """The model with every head, as the released code would have saved it."""
    torch.manual_seed(3)
    heads = {
        "itm": ITM(ITMConfig(), model.width),
        "mlm": MLM(MLMConfig(), model.width, model.num_tokens),
        "vqa": Classify(ClassifyConfig(num_classes=7), model.width),
        "nlvr2": Classify(ClassifyConfig(num_classes=2, images=2), model.width),
    }
    state = {
        f"{name}.{key}": torch.randn_like(v) for name, head in heads.items() for key, v in head.state_dict().items()
    }
    state |= {"itc.logit_scale": torch.tensor(2.6), "itc_vl.logit_scale": torch.tensor(5.1)}
    return to_published(model.state_dict(), state)


def beit(model, shared=False):
    """A BEiT checkpoint of the model's size, and its layers' tables."""
    own = model.state_dict()
    state = {"cls_token": torch.randn(1, 1, 16), "patch_embed.proj.weight": torch.randn(16, 3, 8, 8)}
    state |= {
        "patch_embed.proj.bias": torch.randn(16),
        "head.weight": torch.randn(5, 16),
        "fc_norm.weight": torch.randn(16),
    }
    for layer in range(model.backbone.depth):
        prefix = f"backbone.blocks.{layer}."
        for ours, theirs in (
            ("experts.image.norm.", "norm2."), ("experts.image.fc", "mlp.fc"), ("attention.all.norm.", "norm1."),
            ("attention.all.qkv", "attn.qkv"), ("attention.all.q_", "attn.q_"), ("attention.all.v_", "attn.v_"),
            ("attention.all.out", "attn.proj"), ("gamma", "gamma"),
        ):  # fmt: skip
            for key in own:
                if key.startswith(prefix + ours):
                    state[f"blocks.{layer}.{theirs}{key[len(prefix + ours) :]}"] = torch.randn_like(own[key])
        if not shared:
            state[f"blocks.{layer}.attn.relative_position_bias_table"] = torch.randn(12, 2)
    if shared:
        state["rel_pos_bias.relative_position_bias_table"] = torch.randn(12, 2)
        state["rel_pos_bias.relative_position_index"] = torch.zeros(5, 5).long()
    return state
