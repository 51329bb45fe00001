"""The network of a composed backbone: vision tower, connector, language model."""

# B rows, L places, n pictures, P patches of each, D width of the tower, H width of the language model

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from mmret.models.backbones.language import build_language
from mmret.models.backbones.vision import VisionSpec, build_vision


class MLPConnector(nn.Sequential):
    """[n, P, D] -> [n, P, H]: linear, GELU, linear (Liu et al. 2023, "Improved Baselines", Sec. 3.3)."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__(nn.Linear(width, out), nn.GELU(), nn.Linear(out, out))


class LinearConnector(nn.Linear):
    """[n, P, D] -> [n, P, H]."""


CONNECTORS: dict[str, type[nn.Module]] = {"mlp": MLPConnector, "linear": LinearConnector}
"""What `connector:` may say; each is built from the two widths and reads all patches of a picture."""


class ComposedModel(nn.Module):
    """Patches through the connector take the places of the placeholder tokens.

    Args:
        config: {"vision": VisionSpec as JSON, "language": transformers configuration, "connector", "image_token_id"}.
    """

    def __init__(self, config: Mapping[str, Any], dtype: torch.dtype, attention: str) -> None:
        super().__init__()
        self.image_id = config["image_token_id"]
        self.vision_spec = VisionSpec.from_dict(config["vision"])
        self.vision = build_vision(self.vision_spec).to(dtype)
        self.language = build_language(config["language"], dtype, attention)
        hidden = self.language.config.hidden_size  # pyright: ignore[reportAttributeAccessIssue]
        self.connector = CONNECTORS[config["connector"]](self.vision.width, hidden).to(dtype)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        pixel_values: Tensor | None = None,
        vision_features: Tensor | None = None,
        **settings: Any,
    ) -> BaseModelOutput:
        """States [B, L, H] after the final norm.

        Args:
            input_ids, attention_mask, position_ids: [B, L].
            pixel_values: [n, 3, px, px], the batch's pictures in order of their rows.
            vision_features: [n, P, D], the tower's patches of them, made earlier.
        """
        places = input_ids == self.image_id
        # The placeholder has no row in the embedding table: its state is the picture's.
        states = self.language.get_input_embeddings()(input_ids.masked_fill(places, 0))  # pyright: ignore[reportCallIssue]
        if pixel_values is not None:
            vision_features = self.patches(pixel_values)
        if vision_features is not None:
            seen = self.connector(vision_features.to(states.dtype))
            states = states.masked_scatter(places[..., None], seen.to(states.dtype))
        return self.language(inputs_embeds=states, attention_mask=attention_mask, position_ids=position_ids, **settings)

    def patches(self, pixel_values: Tensor) -> Tensor:
        """[n, 3, px, px] -> the tower's patch features [n, P, D]."""
        return self.vision(pixel_values.to(next(self.vision.parameters()).dtype))[1]

    def get_input_embeddings(self) -> nn.Module:
        """The language model's, for adapters that look for them."""
        return self.language.get_input_embeddings()  # pyright: ignore[reportCallIssue]

    def gradient_checkpointing_enable(self, settings: dict[str, Any]) -> None:
        """In the language model, the largest part."""
        recompute_activations(self.language, settings)


def recompute_activations(model: nn.Module, settings: dict[str, Any]) -> None:
    """Let a transformers model's blocks keep none; the method's name changed with version 5.23."""
    enable = getattr(model, "activation_checkpointing_enable", None)
    (enable or model.gradient_checkpointing_enable)(settings)  # pyright: ignore[reportCallIssue]
