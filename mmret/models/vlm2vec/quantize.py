"""QLoRA: the weights under adapters in 4 bits (NF4, Dettmers et al. 2023), by bitsandbytes."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmret.errors import ConfigError


def check_quantization(settings: Mapping[str, Any]) -> None:
    """Whether a `peft:` section can be had here.

    Raises:
        ConfigError: `type: qlora` without a CUDA device or without bitsandbytes.
    """
    if str(settings.get("type", "")).lower() != "qlora":
        return
    if not torch.cuda.is_available():
        raise ConfigError("model.peft.type: qlora wants a CUDA device, and there is none here; use lora instead")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError("model.peft.type: qlora wants bitsandbytes, which is not here: pip install 'mmret[qlora]'")


def quantize(vlm: nn.Module, device: torch.device | str = "cuda") -> None:
    """Turn the weights under adapters to 4 bits, in place; they do not train."""
    from bitsandbytes.nn import Linear4bit, Params4bit  # pyright: ignore[reportMissingImports]  (extra)
    from peft.tuners.tuners_utils import BaseTunerLayer

    for layer in [m for m in vlm.modules() if isinstance(m, BaseTunerLayer)]:
        plain = layer.get_base_layer()
        if type(plain) is not nn.Linear:
            continue
        small = Linear4bit(
            plain.in_features,
            plain.out_features,
            bias=plain.bias is not None,
            compute_dtype=torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32,
            quant_type="nf4",
        )
        small.weight = Params4bit(plain.weight.data, requires_grad=False, quant_type="nf4").to(device)
        small.bias = plain.bias
        # A stage's resumable checkpoints leave them out: they are what the stage began with.
        small.register_state_dict_post_hook(_leave_out)
        small.register_load_state_dict_pre_hook(_stay)
        layer.base_layer = small  # pyright: ignore[reportAttributeAccessIssue]


def dequantize(vlm: nn.Module) -> None:
    """The reverse, in place, as close as 4 bits are; nothing happens to a model without them."""
    for layer in [m for m in vlm.modules() if getattr(m, "base_layer", None) is not None]:
        small: Any = layer.base_layer
        if not _is_quantized(small):
            continue
        plain = nn.Linear(small.in_features, small.out_features, bias=small.bias is not None, device="meta")
        plain.weight = nn.Parameter(_full(small), requires_grad=False)
        plain.bias = small.bias
        layer.base_layer = plain  # pyright: ignore[reportAttributeAccessIssue]


def full_weights(vlm: nn.Module) -> dict[str, Tensor]:
    """What `state_dict` leaves out, by name, in full width."""
    state: dict[str, Tensor] = {}
    for path, module in vlm.named_modules():
        if _is_quantized(module):
            state[f"{path}.weight"] = _full(module)
            if module.bias is not None:
                state[f"{path}.bias"] = module.bias  # pyright: ignore[reportArgumentType]
    return state


def _is_quantized(module: Any) -> bool:
    return type(module).__module__.startswith("bitsandbytes.") and hasattr(module, "compute_dtype")


def _full(module: Any) -> Tensor:
    from bitsandbytes.functional import dequantize_4bit  # pyright: ignore[reportMissingImports]  (extra)

    return dequantize_4bit(module.weight.data, module.weight.quant_state)


def _leave_out(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        del state[key]


def _stay(module: Any, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    state.update({f"{prefix}{name}": value for name, value in module.named_parameters()})
