"""The families of vision-language models that we know, by their `model_type` in transformers."""

from mmret.models.backbones.vlm_composed import COMPOSED, Composed
from mmret.models.backbones.vlm_family import Family
from mmret.models.backbones.vlm_gemma3 import Gemma3
from mmret.models.backbones.vlm_idefics3 import Idefics3, SmolVLM
from mmret.models.backbones.vlm_internvl import InternVL
from mmret.models.backbones.vlm_llava_next import LlavaNext
from mmret.models.backbones.vlm_paligemma import PaliGemma
from mmret.models.backbones.vlm_phi3_v import Phi3VFamily
from mmret.models.backbones.vlm_qwen import Qwen2VL, Qwen25VL
from mmret.models.backbones.vlm_qwen3 import Qwen3VL

FAMILIES: dict[str, type[Family]] = {
    "qwen2_vl": Qwen2VL,
    "qwen2_5_vl": Qwen25VL,
    "qwen3_vl": Qwen3VL,
    "llava_next": LlavaNext,
    "phi3_v": Phi3VFamily,
    "idefics3": Idefics3,
    "smolvlm": SmolVLM,
    "internvl": InternVL,
    "gemma3": Gemma3,
    "paligemma": PaliGemma,
    COMPOSED: Composed,
}

TINY_FAMILY = "qwen2_vl"
"""What `tiny` alone means."""
