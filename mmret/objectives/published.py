"""The losses whose heads a published VLMo file holds, read off their parameters' names and shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from mmret.objectives.classify import ClassifyConfig
from mmret.objectives.itc import ITCConfig
from mmret.objectives.itm import ITMConfig
from mmret.objectives.mlm import MLMConfig


def published_configs(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Configurations by the names that `mmret.models.vlmo.from_published` gives: itc, itc_vl, itm, mlm, vqa, nlvr2.

    Args:
        state: parameters by "objective.parameter". Weights of the losses and draws of negatives are in no file: these
            are the defaults.
    """
    return {name: make(state) for name, make in _CONFIGS.items() if any(key.startswith(f"{name}.") for key in state)}


def _itc(head: str) -> Callable[[Mapping[str, Tensor]], ITCConfig]:
    # The released code starts from 0.07, learns it and never clamps it; the file has what it became.
    return lambda state: ITCConfig(temperature=0.07, learn_temperature=True, clamp=False, head=head)


_CONFIGS: dict[str, Callable[[Mapping[str, Tensor]], Any]] = {
    "itc": _itc("main"),
    "itc_vl": _itc("vl"),
    "itm": lambda state: ITMConfig(),
    "mlm": lambda state: MLMConfig(),
    "vqa": lambda state: ClassifyConfig(num_classes=len(state["vqa.output.weight"])),
    "nlvr2": lambda state: ClassifyConfig(num_classes=len(state["nlvr2.output.weight"]), images=2),
}
