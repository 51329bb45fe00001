"""Tiny published models as transformers itself writes them: weights, tokenizer and processor of one family."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForImageTextToText, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from mmret.models.backbones.vlm_table import FAMILIES

CORPUS = [
    "which flag is this, and what is its name?\n\n\nA map of the town\n: <0.5 seconds> Frame1",
    "red blue",
    "\n\n",
]


@dataclass(frozen=True)
class Library:
    """What transformers calls a family's parts."""

    processor: str
    images: str
    tokens: dict[str, str]
    """Names under which its processor looks up special tokens -> tokens."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the processor."""
    videos: str | None = None
    begin: str | None = None
    """Token that its tokenizer puts first."""


QWEN = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
    "pad_token": "<|endoftext|>",
}
IDEFICS = {
    "image_token": "<image>",
    "fake_image_token": "<fake_token_around_image>",
    "pad_token": "<|end_of_text|>",
}
LIBRARY = {
    "qwen2_vl": Library("Qwen2VLProcessor", "Qwen2VLImageProcessorPil", QWEN, videos="Qwen2VLVideoProcessor"),
    "qwen2_5_vl": Library("Qwen2_5_VLProcessor", "Qwen2VLImageProcessorPil", QWEN, videos="Qwen2VLVideoProcessor"),
    "qwen3_vl": Library("Qwen3VLProcessor", "Qwen2VLImageProcessorPil", QWEN, videos="Qwen3VLVideoProcessor"),
    "llava_next": Library(
        "LlavaNextProcessor",
        "LlavaNextImageProcessorPil",
        {"image_token": "<image>", "bos_token": "<s>", "pad_token": "<pad>"},
        {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1},
        begin="<s>",
    ),
    "idefics3": Library(
        "Idefics3Processor", "Idefics3ImageProcessorPil", IDEFICS, {"image_seq_len": 4}, begin="<|begin_of_text|>"
    ),
    "smolvlm": Library(
        "SmolVLMProcessor",
        "SmolVLMImageProcessorPil",
        IDEFICS,
        {"image_seq_len": 4},
        videos="SmolVLMVideoProcessor",
    ),
    "internvl": Library(
        "InternVLProcessor",
        "GotOcr2ImageProcessorPil",
        {
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
            "pad_token": "<|endoftext|>",
        },
        {"image_seq_length": 4},
        videos="InternVLVideoProcessor",
    ),
    "gemma3": Library(
        "Gemma3Processor",
        "Gemma3ImageProcessorPil",
        {
            "image_token": "<image_soft_token>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "bos_token": "<bos>",
            "pad_token": "<pad>",
        },
        {"image_seq_length": 4},
        begin="<bos>",
    ),
    "paligemma": Library(
        "PaliGemmaProcessor",
        "SiglipImageProcessorPil",
        {"image_token": "<image>", "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"},
        begin="<bos>",
    ),
}
"""Every family that transformers has."""


def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE over a few lines, and the family's special tokens."""
    library = LIBRARY[kind]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = list(dict.fromkeys([*FAMILIES[kind].SPECIAL, *library.tokens.values()]))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=330, special_tokens=special, initial_alphabet=alphabet)
    )
    if library.begin is not None:
        number = backend.token_to_id(library.begin)
        backend.post_processor = processors.TemplateProcessing(
            single=f"{library.begin} $A", special_tokens=[(library.begin, number)]
        )
    named = {"pad_token": library.tokens["pad_token"]}
    others = {name: token for name, token in library.tokens.items() if name not in ("pad_token", "bos_token")}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        padding_side="left",
        bos_token=library.begin,
        extra_special_tokens=others,
        **named,
    )


def published(kind: str, folder: Path) -> tuple[Any, Any]:
    """A random model and its processor, both also written into a folder by transformers' own `save_pretrained`."""
    library, family = LIBRARY[kind], FAMILIES[kind]
    tokenizer = tokenizer_of(kind)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in family.SPECIAL}
    config = CONFIG_MAPPING[kind].from_dict(family.tiny_config(len(tokenizer), ids))
    torch.manual_seed(3)
    model = AutoModelForImageTextToText.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    pictures = getattr(transformers, library.images)(**family.tiny_pictures(), **_extra(kind))
    parts = {"image_processor": pictures, "tokenizer": tokenizer, **library.settings}
    if library.videos is not None:
        parts["video_processor"] = getattr(transformers, library.videos)()
    processor = getattr(transformers, library.processor)(**parts)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model, processor


def _extra(kind: str) -> dict[str, Any]:
    return {"image_seq_length": 4} if kind == "paligemma" else {}
