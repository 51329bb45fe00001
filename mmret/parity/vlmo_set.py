"""One golden case of VLMo: its files, its model, what was asked of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from mmret.models.vlmo import VLMo, from_published
from mmret.models.vlmo.infer import infer_config
from mmret.models.weights import load_strictly
from mmret.objectives import ITC, ITM, MLM, ITCConfig, ITMConfig, MLMConfig, Step
from mmret.parity.report import Report
from mmret.types import Batch, Inputs

CLOSE = 1e-5
"""Largest difference allowed: absolute for states, vectors and weights; relative to the largest entry for logits and
losses; gradients absolute, and `GRADIENT` relative."""
GRADIENT = 1e-4
"""As the sets' own JSON says: entries of some gradients are differences of nearly equal numbers."""
METRIC = 1e-6
FILES = ("weights", "io", "grads", "heads", "resize", "textmlm", "dist2")


class VLMoSet:
    """A case `<name>.json` with `<name>.{weights,io,...}.safetensors`; a missing file is a failure, noted here."""

    def __init__(self, folder: Path, name: str, golden: dict[str, Any], report: Report) -> None:
        self.folder, self.name, self.golden, self.report = folder, name, golden, report
        self.config: dict[str, Any] = golden["config"]
        self.tensors: dict[str, dict[str, Tensor]] = {}
        self.asked: set[tuple[str, str]] = set()
        for part in FILES:
            file = f"{name}.{part}.safetensors"
            declared = golden.get("files", {}).get(file)
            if (folder / file).is_file():
                self.tensors[part] = load_file(folder / file)
            elif declared is not None:
                report.fail(file, f"named by {name}.json, but not there")
            for key in (declared or {}).get("tensors", {}):
                if part in self.tensors and key not in self.tensors[part]:
                    report.fail(f"{file} {key}", "declared, but not in the file")

    def __getitem__(self, part: str) -> dict[str, Tensor]:
        """Tensors of a file; none if it is not there."""
        return self.tensors.get(part, {})

    def model(self, weights: dict[str, Tensor] | None = None, **overrides: Any) -> VLMo:
        """The case's model, in eval mode, with all published names known."""
        parts = from_published(self["weights"] if weights is None else weights)
        known = {"heads": self.config["num_heads"], "relative_text_span": self.config["max_text_len_of_initckpt"]}
        config = infer_config(parts.model, self.name, tokenizer="tiny", **{**known, **overrides})
        model = VLMo(config)
        load_strictly(model, {**model.adapt_state(parts.model), **parts.unknown}, f"{self.name} weights")
        return model.eval()

    def objectives(self, model: VLMo, **itc: Any) -> dict[str, Any]:
        """The released code's losses with the case's heads: itc, itc_vl, itm, mlm."""
        stored = from_published(self["weights"]).objectives
        released: dict[str, Any] = {
            "temperature": 0.07, "learn_temperature": True, "clamp": False, "mask_false_negatives": False, **itc
        }  # fmt: skip
        objectives: dict[str, Any] = {
            "itc": ITC(ITCConfig(weight=0.5, **released)),
            "itc_vl": ITC(ITCConfig(weight=0.5, head="vl", **released)),
            "itm": ITM.for_model(ITMConfig(mask_false_negatives=False), model),
            "mlm": MLM.for_model(MLMConfig(weight=0.25, average="rank"), model),
        }
        for name, objective in objectives.items():
            own = {key.removeprefix(f"{name}."): v for key, v in stored.items() if key.startswith(f"{name}.")}
            load_strictly(objective, own, f"{self.name} head {name}")
        return objectives

    def step(self, model: VLMo, rows: slice = slice(None), **settings: Any) -> Step:
        """The stored batch, or some rows of it: texts are queries, pictures documents."""
        text, image, masked = self.text()[0], self.image(), self.text("_mlm")[1]
        return Step(
            model, Batch(text.select(rows), image.select(rows), 1, masked_query=masked.select(rows)), **settings
        )

    def text(self, suffix: str = "", part: str = "io") -> tuple[Inputs, Inputs]:
        """Texts, without and with labels."""
        stored = self[part]
        dense = {"input_ids": stored[f"in.text_ids{suffix}"], "attention_mask": stored["in.text_masks"]}
        self.asked |= {(part, f"in.text_ids{suffix}"), (part, "in.text_masks"), (part, f"in.text_labels{suffix}")}
        labels = stored.get(f"in.text_labels{suffix}")
        return Inputs(dense), Inputs(dense if labels is None else {**dense, "labels": labels})

    def image(self, part: str = "io") -> Inputs:
        """Pictures."""
        self.asked.add((part, "in.image"))
        return Inputs({"pixel_values": self[part]["in.image"]})

    def check(self, part: str, key: str, ours: Tensor, *, relative: bool = False) -> None:
        """Compare, if the case holds such a tensor."""
        if key in self[part]:
            self.asked.add((part, key))
            theirs = self[part][key]
            theirs = theirs.to(ours.dtype) if theirs.dtype != ours.dtype else theirs
            self.report.compare(f"{self.name}.{part} {key}", ours, theirs, CLOSE, relative=relative)

    def gradient(self, part: str, key: str, ours: Tensor) -> None:
        """Compare a gradient, if the case holds it: by its largest entry, and absolutely."""
        if key in self[part]:
            self.asked.add((part, key))
            theirs = self[part][key]
            self.report.compare(f"{self.name}.{part} {key}", ours, theirs, GRADIENT, relative=True)
            if float((ours - theirs).abs().max()) > CLOSE:
                self.report.compare(f"{self.name}.{part} {key}, absolute", ours, theirs, CLOSE)

    def scalar(self, name: str, ours: Tensor) -> None:
        """Compare with a number of the JSON, relatively."""
        entry = self.golden.get("scalars", {}).get(name)
        if entry is not None:
            value = torch.tensor(float(entry["value"]))
            self.report.compare(f"{self.name} {name}", ours.detach().float(), value, CLOSE, relative=bool(value))

    def exact(self, name: str, ours: Any, theirs: Any) -> None:
        """Two things that must be equal, not tensors."""
        if ours == theirs:
            self.report.compare(f"{self.name} {name}", torch.tensor(0.0), torch.tensor(0.0), 0.0)
        else:
            self.report.fail(f"{self.name} {name}", f"ours {_some(ours, theirs)}, theirs {_some(theirs, ours)}")

    def finish(self) -> None:
        """Remark on what was stored and not compared."""
        for part, stored in self.tensors.items():
            for key in sorted(stored):
                if (part, key) not in self.asked:
                    self.report.remark(f"{self.name}.{part} {key} is not compared")


def _some(these: Any, those: Any) -> Any:
    return sorted(set(these) - set(those))[:5] if isinstance(these, (set, list)) else these
