"""PreFLMR's pretrained halves: text encoders and vision tower, run or read from a feature cache."""

# B rows, L text places, C pictures per row, P patches, H text width, V vision width

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmret.models.backbones import PictureSettings, TextSpec, VisionSpec, build_text, build_vision
from mmret.models.depth import layers_above
from mmret.models.preflmr.build import picture_settings
from mmret.models.preflmr.config import PreFLMRConfig
from mmret.models.retriever import Retriever
from mmret.types import Inputs, Role


class Towers(Retriever):
    """`document_text`, `query_text` where queries have an encoder of their own, and `vision`, shared by both sides."""

    config: PreFLMRConfig
    vision: nn.Module | None

    def build_towers(self, config: PreFLMRConfig, text: TextSpec, vision: VisionSpec | None) -> None:
        """Towers with random weights; the query's text encoder starts as the document's copy."""
        self.config, self.text_spec, self.vision_spec = config, text, vision
        self.document_text = build_text(text)
        if config.separate_text_encoders:
            self.query_text = build_text(text)
            self.query_text.load_state_dict(self.document_text.state_dict())
        self.vision = None if vision is None else build_vision(vision)

    @property
    def picture(self) -> PictureSettings | None:
        """What the vision tower wants to see; None without one."""
        return None if self.vision_spec is None else picture_settings(self.config, self.vision_spec)

    @property
    def num_droppable(self) -> int | None:
        """Patches of a picture where the vision tower can leave some out."""
        tower: Any = self.vision
        return int(tower.num_patches) if tower is not None and tower.drops_patches else None

    def text_tower(self, role: Role) -> nn.Module:
        """The encoder of one side."""
        return self.query_text if role == "query" and self.config.separate_text_encoders else self.document_text

    def towers(self) -> dict[str, nn.Module]:
        """Pretrained parts that may be frozen and cached; both text names mean one module where it is shared."""
        found = {"query_text": self.text_tower("query"), "document_text": self.text_tower("document")}
        return found if self.vision is None else {**found, "vision": self.vision}

    def layers_above(self) -> dict[str, int]:
        """Each tower counts from its own top; projections, prefix and mapping network are heads."""
        towers = {id(tower) for tower in self.towers().values()}
        found = dict.fromkeys((name for name, _ in self.named_parameters()), 0)
        for child, module in self.named_children():
            if id(module) in towers:
                found |= {f"{child}.{name}": above for name, above in layers_above(module).items()}
        return found

    def tower_features(self, inputs: Inputs, role: Role) -> dict[str, list[Tensor]]:
        """Outputs of the towers this side uses, per row [T, width], as the processor's `features` give them back.

        Vision: the global feature, then all patches where the mapping network reads them; else one global feature per
        picture. Text: queries have all their places, documents those before the padding.
        """
        hidden = self.text_states(inputs, role)
        lengths = inputs.dense["attention_mask"].sum(1).tolist()
        features = {f"{role}_text": [row if role == "query" else row[:n] for row, n in zip(hidden, lengths)]}
        if has_pictures(inputs):
            overall, patches = self.vision_states(inputs, role)
            if patches is not None:
                features["vision"] = list(torch.cat([overall, patches], 1))
            else:
                counts = self.use_image(inputs, role).sum(1).tolist()
                features["vision"] = [row[:n] for row, n in zip(overall, counts)]
        return features

    def text_states(self, inputs: Inputs, role: Role) -> Tensor:
        """[B, L, H] last hidden states."""
        if "text_features" in inputs:
            return inputs.dense["text_features"]
        ids, attention = inputs.dense["input_ids"], inputs.dense["attention_mask"]
        return self.text_tower(role)(input_ids=ids, attention_mask=attention).last_hidden_state

    def vision_states(self, inputs: Inputs, role: Role) -> tuple[Tensor, Tensor | None]:
        """Global features [B, C, V] and, where the mapping network reads them, patches [B, P, V].

        Raises:
            ValueError: the model has no vision tower, or takes no such pixels (a mapping network takes one picture).
        """
        if self.vision is None:
            raise ValueError("these inputs hold pictures, but the model has no vision tower (model.vision is null)")
        mapped = self._maps(role)
        if "vision_features" in inputs:
            features = inputs.dense["vision_features"]
            return (features[:, :1], features[:, 1:]) if mapped else (features, None)
        values = inputs.dense["pixel_values"]
        if values.dim() == 4:
            values = values.unsqueeze(1)
        if values.dim() != 5 or (mapped and values.shape[1] != 1):
            raise ValueError(
                f"pixel_values {tuple(inputs.dense['pixel_values'].shape)}, want [rows, 3, px, px]"
                + (
                    ": with the mapping network a query has one picture"
                    if mapped
                    else " or [rows, pictures, 3, px, px]"
                )
            )
        overall, patches = self.vision(values.flatten(0, 1), inputs.dense.get("kept_patches"))
        return overall.unflatten(0, values.shape[:2]), patches if mapped else None

    def use_image(self, inputs: Inputs, role: Role) -> Tensor:
        """[B, C] bool: pictures that count; all, if the inputs do not say."""
        if "use_image" in inputs:
            return inputs.dense["use_image"]
        rows = inputs.dense["pixel_values"] if "pixel_values" in inputs else inputs.dense["vision_features"]
        several = rows.dim() == 5 or (rows.dim() == 3 and not self._maps(role))
        return torch.ones(len(rows), rows.shape[1] if several else 1, dtype=torch.bool, device=rows.device)

    def _maps(self, role: Role) -> bool:
        return role == "query" and self.config.maps_patches


def has_pictures(inputs: Inputs) -> bool:
    """Do these inputs bring pixels, or a vision tower's features?"""
    return "pixel_values" in inputs or "vision_features" in inputs
