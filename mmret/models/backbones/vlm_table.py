"""The families of vision-language models that we know, by their `model_type` in transformers."""

from mmret.models.backbones.vlm_family import Family
from mmret.models.backbones.vlm_llava_next import LlavaNext
from mmret.models.backbones.vlm_qwen import Qwen2VL, Qwen25VL

FAMILIES: dict[str, type[Family]] = {"qwen2_vl": Qwen2VL, "qwen2_5_vl": Qwen25VL, "llava_next": LlavaNext}

TINY_FAMILY = "qwen2_vl"
"""What `tiny` alone means."""
