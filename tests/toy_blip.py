"""A captioning model of transformers at toy size, in its folder layout."""

import torch
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    set_seed,
)

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "blue", "cat", "dog", "big", "small"]


def write_blip(home):
    """A BLIP of two layers with random weights, and its processor."""
    home.mkdir(exist_ok=True)
    (home / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = BertTokenizerFast(vocab=str(home / "vocab.txt"), vocab_file=str(home / "vocab.txt"))
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    text = {"vocab_size": len(WORDS), "bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    config = BlipConfig(
        text_config={**size, **text, "encoder_hidden_size": 16, "max_position_embeddings": 32},
        vision_config={**size, "image_size": 16, "patch_size": 8},
    )
    set_seed(3)
    model = BlipForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(home)
    BlipProcessor(BlipImageProcessor(size={"height": 16, "width": 16}), tokenizer).save_pretrained(home)
    return home
