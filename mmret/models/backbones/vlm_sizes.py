"""Sizes of vision-language models known without a download, so that a recipe can be checked anywhere.

As published in each model's config.json; a model that is run is built from that file alone.
"""

from __future__ import annotations

from typing import Any

QWEN2_VISION = {"model_type": "qwen2_vl", "depth": 32, "embed_dim": 1280, "num_heads": 16, "mlp_ratio": 4}

SIZES: dict[str, dict[str, Any]] = {
    "microsoft/Phi-3.5-vision-instruct": {
        "model_type": "phi3_v",
        "vocab_size": 32064,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    },
    "Qwen/Qwen2-VL-2B-Instruct": {
        "model_type": "qwen2_vl",
        "text_config": {
            "vocab_size": 151936,
            "hidden_size": 1536,
            "intermediate_size": 8960,
            "num_hidden_layers": 28,
            "num_attention_heads": 12,
            "num_key_value_heads": 2,
        },
        "vision_config": {**QWEN2_VISION, "hidden_size": 1536},
    },
    "Qwen/Qwen2-VL-7B-Instruct": {
        "model_type": "qwen2_vl",
        "text_config": {
            "vocab_size": 152064,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
        },
        "vision_config": {**QWEN2_VISION, "hidden_size": 3584},
    },
}
